"""The widths of the published adapters: of their tokens and of the sites that receive them."""

TOKEN_WIDTHS = {"sd15": 768, "sdxl": 2048, "sd3": 4096}

# UNets in diffusers' order, down, up, middle; SD3's every second joint block.
SITES = {
    "sd15": [320] * 2 + [640] * 2 + [1280] * 5 + [640] * 3 + [320] * 3 + [1280],
    "sdxl": [640] * 4 + [1280] * 50 + [640] * 6 + [1280] * 10,
    "sd3": [1536] * 12,
}
