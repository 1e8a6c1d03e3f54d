"""One module per kind of volume. What a driver must offer is `Driver` (driver.py)."""
