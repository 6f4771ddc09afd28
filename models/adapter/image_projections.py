"""The image projections of adapters that take no instruction: what makes image tokens of an image or a face.

Axes: B batch, N image patches and class token, T image tokens, D width.

Source: tencent-ailab/IP-Adapter@cfcdf8c, ip_adapter/ip_adapter.py, ip_adapter_faceid.py and resampler.py.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import ModuleType

import torch
from einops import rearrange
from torch import Tensor, nn

from .resampler import Projection, ProjectionSizes, block_sizes, query_sizes, resampler_blocks

OF_FACE = "perceiver_resampler."


class LinearProjection(Projection):
    """IP-Adapter's projection: one linear layer makes all tokens of an image's embedding."""

    def __init__(self, sizes: ProjectionSizes, operations: ModuleType = nn):
        super().__init__(sizes)
        self.proj = operations.Linear(sizes.image_width, sizes.tokens * sizes.out_width)
        self.norm = operations.LayerNorm(sizes.out_width)

    @staticmethod
    def read_sizes(state: Mapping[str, Tensor]) -> ProjectionSizes:
        (rows, image_width), out_width = state["proj.weight"].shape, state["norm.weight"].shape[0]
        return ProjectionSizes(rows // out_width, out_width, image_width)

    def forward(self, image_embeds: Tensor) -> Tensor:
        """Return image tokens: [B, D] -> [B, T, out width]."""
        return self.norm(rearrange(self.proj(image_embeds), "b (t d) -> b t d", t=self.sizes.tokens))


class HiddenStatesReader(Projection):
    """The layers of a resampler, whose queries read the hidden states, as `Resampler`'s first stack does."""

    def __init__(self, sizes: ProjectionSizes, operations: ModuleType = nn):
        super().__init__(sizes)
        self.proj_in = operations.Linear(sizes.image_width, sizes.width)
        self.layers = resampler_blocks(sizes, sizes.image_ff, operations)
        self.proj_out = operations.Linear(sizes.width, sizes.out_width)
        self.norm_out = operations.LayerNorm(sizes.out_width)

    def forward(self, queries: Tensor, hidden_states: Tensor) -> Tensor:
        """Return image tokens: queries [B, T, D], hidden states [B, N, D] -> [B, T, out width]."""
        context = self.proj_in(hidden_states)
        for block in self.layers:
            queries = block(context, queries)
        return self.norm_out(self.proj_out(queries))


class PlusProjection(HiddenStatesReader):
    """IP-Adapter Plus's projection: the queries are learned."""

    def __init__(self, sizes: ProjectionSizes, operations: ModuleType = nn):
        super().__init__(sizes, operations)
        self.latents = nn.Parameter(torch.empty(1, sizes.tokens, sizes.width))

    read_sizes = staticmethod(query_sizes)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Return image tokens: [B, N, D] -> [B, T, out width]."""
        return super().forward(self.latents.to(hidden_states).expand(len(hidden_states), -1, -1), hidden_states)


class FaceResamplerProjection(PlusProjection):
    """The portrait adapter's projection, of unnormalised face embeddings: the resampler reads a face as one state."""

    @staticmethod
    def read_sizes(state: Mapping[str, Tensor]) -> ProjectionSizes:
        sizes = query_sizes(state)
        return replace(sizes, face_width=sizes.image_width)

    def forward(self, face: Tensor) -> Tensor:
        """Return image tokens: [B, face width] -> [B, T, out width]."""
        return super().forward(face.unsqueeze(1))


class FullFaceProjection(Projection):
    """The full-face adapter's projection: each of the encoder's hidden states becomes a token."""

    def __init__(self, sizes: ProjectionSizes, operations: ModuleType = nn):
        super().__init__(sizes)
        self.proj = nn.Sequential(
            operations.Linear(sizes.image_width, sizes.inner),
            nn.GELU(),
            operations.Linear(sizes.inner, sizes.out_width),
            operations.LayerNorm(sizes.out_width),
        )

    @staticmethod
    def read_sizes(state: Mapping[str, Tensor]) -> ProjectionSizes:
        inner, image_width = state["proj.0.weight"].shape
        return ProjectionSizes(0, state["proj.2.weight"].shape[0], image_width, inner=inner)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Return image tokens: [B, N, D] -> [B, N, out width]."""
        return self.proj(hidden_states)


class FaceProjection(Projection):
    """FaceID's projection: two linear layers make all tokens of a face embedding."""

    def __init__(self, sizes: ProjectionSizes, operations: ModuleType = nn):
        super().__init__(sizes)
        self.proj = nn.Sequential(
            operations.Linear(sizes.face_width, sizes.inner),
            nn.GELU(),
            operations.Linear(sizes.inner, sizes.tokens * sizes.out_width),
        )
        self.norm = operations.LayerNorm(sizes.out_width)

    @staticmethod
    def read_sizes(state: Mapping[str, Tensor]) -> ProjectionSizes:
        (inner, face_width), out_width = state["proj.0.weight"].shape, state["norm.weight"].shape[0]
        tokens = state["proj.2.weight"].shape[0] // out_width
        return ProjectionSizes(tokens, out_width, face_width=face_width, inner=inner)

    def forward(self, face: Tensor) -> Tensor:
        """Return image tokens: [B, face width] -> [B, T, out width]."""
        return self.norm(rearrange(self.proj(face), "b (t d) -> b t d", t=self.sizes.tokens))


class FacePlusProjection(FaceProjection):
    """FaceID-Plus's projection: FaceID's tokens are the queries that read the encoder's hidden states."""

    def __init__(self, sizes: ProjectionSizes, operations: ModuleType = nn):
        super().__init__(sizes, operations)
        self.perceiver_resampler = HiddenStatesReader(sizes, operations)

    @staticmethod
    def read_sizes(state: Mapping[str, Tensor]) -> ProjectionSizes:
        sizes = FaceProjection.read_sizes(state)
        into = state[f"{OF_FACE}proj_in.weight"].shape
        return replace(sizes, width=into[0], image_width=into[1], **block_sizes(state, OF_FACE))

    def forward(self, face: Tensor, hidden_states: Tensor) -> Tensor:
        """Return image tokens: face [B, face width], hidden states [B, N, D] -> [B, T, out width]."""
        return self.perceiver_resampler(super().forward(face), hidden_states)


class FacePlusV2Projection(FacePlusProjection):
    """FaceID-PlusV2's projection: what the encoder's hidden states tell of the face is added to FaceID's tokens."""

    def forward(self, face: Tensor, hidden_states: Tensor, structure: float = 1.0) -> Tensor:
        """Return image tokens: face [B, face width], hidden states [B, N, D] -> [B, T, out width].

        structure: how much of what the hidden states tell is added, `s_scale` in the source. 0 is the embedding alone.
        """
        tokens = FaceProjection.forward(self, face)
        return tokens + structure * self.perceiver_resampler(tokens, hidden_states)
