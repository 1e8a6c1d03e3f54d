"""One module per kind of network. What a driver must offer is `Driver` (driver.py); which there are is wired in networks.py."""
