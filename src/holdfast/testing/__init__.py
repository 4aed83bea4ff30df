"""What tests of holdfast, and of storages written for it, share."""
