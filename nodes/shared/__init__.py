"""The parts that nodes share: schemas and sockets, files, routes, and the lines that they show."""
