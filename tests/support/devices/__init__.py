"""Devices and memory that the tests play on a CPU."""
