"""Sensor factories: one contract in, the sensor that notices its arrivals out."""
