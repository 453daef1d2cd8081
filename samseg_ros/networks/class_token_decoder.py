"""SAM's mask decoder with one output token a class (full-fledged output tokens).

Source: FusionSAM (arXiv 2408.13980), *Full-fledged Output Tokens*; Kirillov et al., *Segment Anything* (2023). The
parts are those of ``segment_anything.modeling.MaskDecoder`` under its names. Its own prediction repeats every image
for every prompt and has a token for mask quality; here image i meets prompt set i, and there is no such token.
"""

from __future__ import annotations

import torch
from segment_anything.modeling import MaskDecoder, TwoWayTransformer
from torch import Tensor, nn


class ClassTokenDecoder(nn.Module):
    """Image embedding and prompts to class scores.

    Args:
        classes: number of classes K, one token and one hypernetwork each.
        dim: channels of the image embedding.
        depth: layers of the two-way transformer.
        heads: its attention heads.
        mlp_dim: hidden width of its MLPs.
    """

    def __init__(self, classes: int, dim: int = 256, depth: int = 2, heads: int = 8, mlp_dim: int = 2048) -> None:
        super().__init__()
        transformer = TwoWayTransformer(depth=depth, embedding_dim=dim, num_heads=heads, mlp_dim=mlp_dim)
        parts = MaskDecoder(transformer_dim=dim, transformer=transformer, num_multimask_outputs=classes - 1)
        self.transformer = parts.transformer
        self.mask_tokens = parts.mask_tokens  # K of them
        self.output_upscaling = parts.output_upscaling
        self.output_hypernetworks_mlps = parts.output_hypernetworks_mlps
        self.classifier = nn.Sequential(nn.Conv2d(classes, dim, 1), nn.GELU(), nn.Conv2d(dim, classes, 1))

    def forward(self, image: Tensor, positions: Tensor, sparse: Tensor, dense: Tensor) -> Tensor:
        """Score the classes.

        Args:
            image: (B, dim, h, w) embedding.
            positions: (1, dim, h, w) encoding of its places.
            sparse: (B, n, dim) points and boxes of each image.
            dense: (B, dim, h, w) mask of each image.

        Returns:
            (B, K, 4h, 4w). The K masks see each other in the classification head, an MLP at every pixel, which is
            added to them.
        """
        b, c, h, w = image.shape
        tokens = torch.cat([self.mask_tokens.weight.to(sparse.dtype).expand(b, -1, -1), sparse], 1)
        queries, keys = self.transformer(image + dense, positions.expand(b, -1, -1, -1), tokens)
        features = self.output_upscaling(keys.transpose(1, 2).reshape(b, c, h, w))  # (B, dim / 8, 4h, 4w)
        filters = torch.stack([mlp(queries[:, i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], 1)
        masks = (filters @ features.flatten(2)).reshape(b, -1, 4 * h, 4 * w)
        scores: Tensor = masks + self.classifier(masks)
        return scores
