"""The decoder with class tokens against SAM's own, image by image."""

from __future__ import annotations

import pytest
import torch
from segment_anything.modeling import MaskDecoder, TwoWayTransformer
from torch import Tensor, nn

from samseg_ros.networks.class_token_decoder import ClassTokenDecoder

CLASSES, DIM = 5, 32


def _decoder() -> ClassTokenDecoder:
    torch.manual_seed(0)
    return ClassTokenDecoder(CLASSES, DIM, depth=2, heads=4, mlp_dim=48).eval()


def _inputs(batch: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    shapes = ((batch, DIM, 4, 6), (1, DIM, 4, 6), (batch, 12, DIM), (batch, DIM, 4, 6))
    image, positions, sparse, dense = (torch.randn(shape, generator=g) for shape in shapes)
    return image, positions, sparse, dense


def test_a_batch_gives_what_its_images_give_one_by_one() -> None:
    decoder = _decoder()
    image, positions, sparse, dense = _inputs(3)
    with torch.inference_mode():
        together = decoder(image, positions, sparse, dense)
        alone = [decoder(image[i : i + 1], positions, sparse[i : i + 1], dense[i : i + 1]) for i in range(3)]
    assert together.shape == (3, CLASSES, 16, 24)
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-4, rtol=1e-4)
    assert (together[0] - together[1]).abs().max() > 1e-2


def test_the_masks_are_sams_where_its_quality_token_is_no_token() -> None:
    decoder = _decoder()
    transformer = TwoWayTransformer(depth=2, embedding_dim=DIM, num_heads=4, mlp_dim=48)
    theirs = MaskDecoder(transformer_dim=DIM, transformer=transformer, num_multimask_outputs=CLASSES - 1).eval()
    missing, unexpected = theirs.load_state_dict(decoder.state_dict(), strict=False)
    assert {key.split(".")[0] for key in missing} == {"iou_token", "iou_prediction_head"}
    assert {key.split(".")[0] for key in unexpected} == {"classifier"}
    image, positions, sparse, dense = _inputs(1)
    _set_zero(decoder.classifier)
    with torch.inference_mode():
        # Their first token is one of quality. Here the same tokens: K class tokens, of which the first stands in its
        # place and the prompts' first in the place of the last.
        theirs.iou_token.weight.copy_(decoder.mask_tokens.weight[:1])
        theirs.mask_tokens.weight.copy_(torch.cat([decoder.mask_tokens.weight[1:], sparse[0, :1]]))
        expected, _ = theirs.predict_masks(image, positions, sparse[:, 1:], dense)
        # Mask i of theirs thus belongs to our token i + 1, but comes from hypernetwork i.
        for i in range(CLASSES - 1):
            hypernetwork = theirs.output_hypernetworks_mlps[i].state_dict()
            decoder.output_hypernetworks_mlps[i + 1].load_state_dict(hypernetwork)
        got = decoder(image, positions, sparse, dense)
    torch.testing.assert_close(got[:, 1:], expected[:, : CLASSES - 1], atol=1e-4, rtol=1e-4)


def test_the_classification_head_adds_an_mlp_of_all_masks_at_a_pixel() -> None:
    decoder = _decoder()
    inputs = _inputs(1)
    with torch.inference_mode():
        whole = decoder(*inputs)
        first, _, last = decoder.classifier
        hidden_weight, out_weight = first.weight[..., 0, 0].clone(), last.weight[..., 0, 0].clone()
        hidden_bias, out_bias = first.bias.clone(), last.bias.clone()
        _set_zero(decoder.classifier)
        pixel = decoder(*inputs)[0, :, 7, 9]
        hidden = torch.nn.functional.gelu(hidden_weight @ pixel + hidden_bias)
    torch.testing.assert_close(whole[0, :, 7, 9], pixel + out_weight @ hidden + out_bias, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("classes", [1, 9])
def test_there_is_one_token_and_one_hypernetwork_a_class(classes: int) -> None:
    decoder = ClassTokenDecoder(classes, DIM, heads=4, mlp_dim=16)
    assert decoder.mask_tokens.weight.shape == (classes, DIM)
    assert len(decoder.output_hypernetworks_mlps) == classes


def _set_zero(module: nn.Module) -> None:
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
