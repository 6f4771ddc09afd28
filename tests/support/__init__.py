"""The parts that tests of several files share: small models and files here, all else in a folder for each idea.

devices        processors and memory that are played
node_runs      the pack's nodes run with small inputs and files
other_nodes    other nodes and packs that change the same model
page           ComfyUI's page in a browser
published      facts about the published adapters
sampling       short runs, and an oracle that makes the same pictures without the pack
servers        what servers that tests start work with
situations     everything that a user may set at once, and what it means
"""
