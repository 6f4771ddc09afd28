"""The parts that nodes share: sockets, inputs, files, and the lines that they show."""
