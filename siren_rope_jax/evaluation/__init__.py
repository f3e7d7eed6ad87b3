"""What is measured of one run, and the files it writes."""
