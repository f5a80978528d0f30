"""Video networks that start from an image ViT."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional as F

from service.model.config import SequenceConfig, VidTrConfig
from service.model.factory import Network
from service.model.weights import CheckpointError, CheckpointMismatch, inflate
from service.model.weights.image_names import to_video_names
from tests.unit.model.weights.files import CVIDTR, HYBRID, RELEASED, SIZE, VANILLA, VIDTR, network

GOLDEN = Path(__file__).parents[3] / "data" / "golden" / "inflate.safetensors"
DIM, PATCH, HEADS, LAYERS, MLP = SIZE["dim"], SIZE["patch"], SIZE["heads"], SIZE["depth"], SIZE["mlp_dim"]


def golden() -> tuple[dict[str, Any], dict[str, Tensor]]:
    with safe_open(GOLDEN, "pt") as file:
        meta = {key: json.loads(value) for key, value in file.metadata().items()}
        return meta, {key: file.get_tensor(key) for key in file.keys()}


def group(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def golden_network(kind: str, meta: dict[str, Any]) -> Network:
    size: dict[str, Any] = {
        "height": meta["H"],
        "width": meta["W"],
        "frames": meta["T"],
        "patch": meta["patch"][0],
        "depth": meta["num_encoder_layers"],
        "heads": meta["nhead"],
        "dim": meta["d_model"],
        "mlp_dim": meta["dim_feedforward"],
        "classes": meta["classes"],
    }
    if kind == "vidtr":
        return network(VidTrConfig(**size, positions="first_layer"))
    # One pooling layer less than the file's, whose last layer pools: such logits cannot depend on the clip, and the
    # schedule changes no weight.
    separable: dict[str, Any] = {"cvidtr": {"separable_layers": 1, "pooling": ((0, 3),)}, "vanilla": {}}[kind]
    return network(SequenceConfig(**size, **separable))


def image(*, side: tuple[int, int] = (2, 3), layers: int = LAYERS, seed: int = 0) -> dict[str, Tensor]:
    """Random weights of an image ViT with `side` patches, in the flat spelling of the released file."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    weights = {
        "conv_stem.weight": random(DIM, 3, 1, PATCH, PATCH),
        "conv_stem.bias": random(DIM),
        "cls": random(1, 1, DIM),
        "pos_embedding": random(1, side[0] * side[1] + 1, DIM),
        "encoder.norm.weight": random(DIM),
        "encoder.norm.bias": random(DIM),
        "fc.weight": random(21, DIM),
        "fc.bias": random(21),
    }
    for i in range(layers):
        shapes = {
            "norm1.weight": (DIM,),
            "norm1.bias": (DIM,),
            "self_attn.in_proj_weight": (3 * DIM, DIM),
            "self_attn.in_proj_bias": (3 * DIM,),
            "self_attn.out_proj.weight": (DIM, DIM),
            "self_attn.out_proj.bias": (DIM,),
            "norm2.weight": (DIM,),
            "norm2.bias": (DIM,),
            "linear1.weight": (MLP, DIM),
            "linear1.bias": (MLP,),
            "linear2.weight": (DIM, MLP),
            "linear2.bias": (DIM,),
        }
        weights |= {f"encoder.layers.{i}.{name}": random(*shape) for name, shape in shapes.items()}
    return weights


def as_timm(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    spelled = {
        "cls_token": weights["cls"],
        "pos_embed": weights["pos_embedding"],
        "patch_embed.proj.weight": weights["conv_stem.weight"][:, :, 0],
        "patch_embed.proj.bias": weights["conv_stem.bias"],
        "norm.weight": weights["encoder.norm.weight"],
        "norm.bias": weights["encoder.norm.bias"],
        "head.weight": weights["fc.weight"],
        "head.bias": weights["fc.bias"],
    }
    for i in range(LAYERS):
        for theirs, ours in (
            ("norm1.weight", "norm1.weight"),
            ("norm1.bias", "norm1.bias"),
            ("attn.qkv.weight", "self_attn.in_proj_weight"),
            ("attn.qkv.bias", "self_attn.in_proj_bias"),
            ("attn.proj.weight", "self_attn.out_proj.weight"),
            ("attn.proj.bias", "self_attn.out_proj.bias"),
            ("norm2.weight", "norm2.weight"),
            ("norm2.bias", "norm2.bias"),
            ("mlp.fc1.weight", "linear1.weight"),
            ("mlp.fc1.bias", "linear1.bias"),
            ("mlp.fc2.weight", "linear2.weight"),
            ("mlp.fc2.bias", "linear2.bias"),
        ):
            spelled[f"blocks.{i}.{theirs}"] = weights[f"encoder.layers.{i}.{ours}"]
    return spelled


def google(seed: int = 0) -> dict[str, Tensor]:
    """Random weights in the layouts of Google's archives."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    weights = {
        "embedding/kernel": random(PATCH, PATCH, 3, DIM),
        "embedding/bias": random(DIM),
        "cls": random(1, 1, DIM),
        "Transformer/posembed_input/pos_embedding": random(1, 7, DIM),
        "Transformer/encoder_norm/scale": random(DIM),
        "Transformer/encoder_norm/bias": random(DIM),
        "pre_logits/kernel": random(DIM, DIM),
        "head/kernel": random(DIM, 21),
    }
    for i in range(LAYERS):
        block, attention = f"Transformer/encoderblock_{i}", "MultiHeadDotProductAttention_1"
        for part in ("query", "key", "value"):
            weights[f"{block}/{attention}/{part}/kernel"] = random(DIM, HEADS, DIM // HEADS)
            weights[f"{block}/{attention}/{part}/bias"] = random(HEADS, DIM // HEADS)
        weights[f"{block}/{attention}/out/kernel"] = random(HEADS, DIM // HEADS, DIM)
        weights[f"{block}/{attention}/out/bias"] = random(DIM)
        for norm in ("LayerNorm_0", "LayerNorm_2"):
            weights[f"{block}/{norm}/scale"], weights[f"{block}/{norm}/bias"] = random(DIM), random(DIM)
        for dense, shape in (("Dense_0", (DIM, MLP)), ("Dense_1", (MLP, DIM))):
            weights[f"{block}/MlpBlock_3/{dense}/kernel"] = random(*shape)
            weights[f"{block}/MlpBlock_3/{dense}/bias"] = random(shape[1])
    return weights


@pytest.mark.parametrize("kind", ["vidtr", "cvidtr", "vanilla"])
def test_inflation_is_that_of_the_authors(kind: str) -> None:
    meta, tensors = golden()
    model = golden_network(kind, meta)
    head = model.fc.weight.clone()
    vit = group(tensors, "vit.")
    unused = inflate(model, vit)
    expected = {**vit, **group(tensors, f"{kind}."), "fc.weight": head, "fc.bias": model.fc.bias}
    state = model.state_dict()
    assert set(state) == set(expected) - ({"cls"} if kind == "vidtr" else set())
    for name, tensor in state.items():
        assert torch.equal(tensor, expected[name]), name
    assert unused == ["fc.bias", "fc.weight"]


@pytest.mark.parametrize("form", RELEASED)
def test_the_head_stays_random(form: str) -> None:
    model = network(RELEASED[form])
    weight, bias = model.fc.weight.clone(), model.fc.bias.clone()
    inflate(model, image())
    assert torch.equal(model.fc.weight, weight)
    assert torch.equal(model.fc.bias, bias)


def test_timm_weights_give_what_the_released_spelling_gives() -> None:
    one, other = network(VIDTR), network(VIDTR)
    inflate(one, image())
    unused = inflate(other, as_timm(image()))
    assert all(torch.equal(other.state_dict()[name], tensor) for name, tensor in one.state_dict().items())
    assert unused == ["head.weight", "head.bias"]


def test_google_weights_fill_every_parameter_but_the_head() -> None:
    model = network(HYBRID)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float("nan"))
    unused = inflate(model, google())
    assert {name for name, tensor in model.state_dict().items() if tensor.isnan().any()} == {"fc.weight", "fc.bias"}
    assert unused == ["pre_logits/kernel", "head/kernel"]


@pytest.mark.parametrize(("part", "name"), [(0, "query"), (1, "key"), (2, "value")])
def test_google_projections_give_the_same_numbers(part: int, name: str) -> None:
    source, x = google(), torch.randn(5, DIM, generator=torch.Generator().manual_seed(1))
    converted = to_video_names(source)
    at = f"Transformer/encoderblock_1/MultiHeadDotProductAttention_1/{name}"
    expected = torch.einsum("nd,dhc->nhc", x, source[f"{at}/kernel"]) + source[f"{at}/bias"]
    weight, bias = (converted[f"encoder.layers.1.self_attn.in_proj_{kind}"] for kind in ("weight", "bias"))
    packed = F.linear(x, weight, bias).view(5, 3, HEADS, DIM // HEADS)
    torch.testing.assert_close(packed[:, part], expected)


def test_the_google_output_projection_gives_the_same_numbers() -> None:
    source, x = google(), torch.randn(5, HEADS, DIM // HEADS, generator=torch.Generator().manual_seed(1))
    converted = to_video_names(source)
    at = "Transformer/encoderblock_1/MultiHeadDotProductAttention_1/out"
    expected = torch.einsum("nhc,hcd->nd", x, source[f"{at}/kernel"]) + source[f"{at}/bias"]
    weight, bias = (converted[f"encoder.layers.1.self_attn.out_proj.{kind}"] for kind in ("weight", "bias"))
    torch.testing.assert_close(F.linear(x.flatten(1), weight, bias), expected)


def test_google_mlps_and_norms_give_the_same_numbers() -> None:
    source, x = google(), torch.randn(5, DIM, generator=torch.Generator().manual_seed(1))
    converted = to_video_names(source)
    theirs, ours = "Transformer/encoderblock_2", "encoder.layers.2"
    for norm, target in (("LayerNorm_0", "norm1"), ("LayerNorm_2", "norm2")):
        assert torch.equal(converted[f"{ours}.{target}.weight"], source[f"{theirs}/{norm}/scale"])
        assert torch.equal(converted[f"{ours}.{target}.bias"], source[f"{theirs}/{norm}/bias"])
    for dense, target in (("Dense_0", "linear1"), ("Dense_1", "linear2")):
        x_out = x @ source[f"{theirs}/MlpBlock_3/{dense}/kernel"] + source[f"{theirs}/MlpBlock_3/{dense}/bias"]
        got = F.linear(x, converted[f"{ours}.{target}.weight"], converted[f"{ours}.{target}.bias"])
        torch.testing.assert_close(got, x_out)
        x = x_out


def test_the_google_patch_embedding_gives_the_same_numbers() -> None:
    source = google()
    patch = torch.randn(PATCH, PATCH, 3, generator=torch.Generator().manual_seed(1))
    expected = torch.einsum("yxc,yxcd->d", patch, source["embedding/kernel"]) + source["embedding/bias"]
    converted = to_video_names(source)
    got = F.linear(
        patch.permute(2, 0, 1).flatten(), converted["conv_stem.weight"].flatten(1), converted["conv_stem.bias"]
    )
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_projections_of_their_own_both_start_from_the_image() -> None:
    model = network(VidTrConfig(**SIZE, qkv="separate"))
    inflate(model, image())
    expected = image()["encoder.layers.1.self_attn.in_proj_weight"]
    state = model.state_dict()
    for step in ("temporal", "spatial"):
        assert torch.equal(state[f"encoder.layers.1.self_attn.{step}_proj.weight"], expected)


@pytest.mark.parametrize("class_tokens", ["spatial", "none"])
def test_grids_with_fewer_class_tokens_repeat_the_table_for_every_row(class_tokens: Any) -> None:
    model = network(VidTrConfig(**SIZE, class_tokens=class_tokens))
    inflate(model, image())
    row = image()["pos_embedding"][:, 1:] if class_tokens == "none" else image()["pos_embedding"]
    assert torch.equal(model.pos_embedding, row.repeat(1, SIZE["frames"], 1))


def test_a_convolution_along_time_keeps_its_start_as_the_mean_of_a_pair() -> None:
    config = VidTrConfig(**SIZE, pooling=((0, 2),), pooling_method="conv")
    model, fresh = network(config), network(config)
    inflate(model, image())
    own = [name for name in model.state_dict() if name not in network(VIDTR).state_dict()]
    assert own
    assert all(torch.equal(model.state_dict()[name], fresh.state_dict()[name]) for name in own)


# --- another grid of patches -------------------------------------------------------------------------------------


def spatial_table(model: Network) -> Tensor:
    """Positions of the locations of frame 0 as a grid, `(H/p, W/p, d)`."""
    c = model.config
    height, width = c.height // c.patch, c.width // c.patch
    return model.pos_embedding[0, 1 : 1 + c.locations].detach().view(height, width, c.dim)


def test_positions_of_another_grid_are_resampled() -> None:
    # A plane stays a plane, but for the border, whatever the grid: each entry is its own coordinate in the picture.
    weights = image(side=(12, 12))
    centers = (torch.arange(12) + 0.5) / 12
    weights["pos_embedding"][0, 1:, 0] = centers.repeat_interleave(12)
    weights["pos_embedding"][0, 1:, 1] = centers.repeat(12)
    model = network(SequenceConfig(**{**SIZE, "height": 48, "width": 64}))
    inflate(model, weights)
    table = spatial_table(model)
    rows, columns = (torch.arange(6) + 0.5) / 6, (torch.arange(8) + 0.5) / 8
    assert torch.allclose(table[1:-1, :, 0], rows[1:-1, None].expand(4, 8), atol=0.02)
    assert torch.allclose(table[:, 1:-1, 1], columns[None, 1:-1].expand(6, 6), atol=0.02)


def test_the_class_entry_is_not_resampled() -> None:
    model = network(VANILLA)
    weights = image(side=(5, 5))
    inflate(model, weights)
    assert torch.equal(model.pos_embedding[:, 0], weights["pos_embedding"][:, 0])


def test_a_square_table_is_resampled_to_an_oblong_grid_of_as_many_locations() -> None:
    model = network(SequenceConfig(**{**SIZE, "height": 16, "width": 64}))
    weights = image(side=(4, 4))
    inflate(model, weights)
    assert not torch.equal(model.pos_embedding[:, 1:17], weights["pos_embedding"][:, 1:])


def test_a_table_that_is_no_square_and_of_another_number_is_refused() -> None:
    with pytest.raises(CheckpointError, match="has 10 locations, which make no square"):
        inflate(network(CVIDTR), image(side=(2, 5)))


# --- what is refused ---------------------------------------------------------------------------------------------


def test_an_image_network_of_fewer_layers_is_refused_by_the_first_missing_name() -> None:
    model = network(VIDTR)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointMismatch, match=r"missing encoder\.layers\.2\.norm1\.weight"):
        inflate(model, image(layers=LAYERS - 1))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_layers_beyond_the_networks_depth_are_told_as_unused() -> None:
    assert "encoder.layers.3.norm1.weight" in inflate(network(VIDTR), image(layers=LAYERS + 1))


def test_another_patch_size_is_refused_with_both_shapes() -> None:
    weights = image() | {"conv_stem.weight": torch.zeros(DIM, 3, 1, 4, 4)}
    with pytest.raises(
        CheckpointMismatch, match=r"conv_stem\.weight is \(16, 3, 1, 4, 4\), expected \(16, 3, 1, 8, 8\)"
    ):
        inflate(network(VIDTR), weights)


@pytest.mark.parametrize("name", ["cls", "pos_embedding"])
def test_tokens_of_another_shape_are_refused_by_name(name: str) -> None:
    with pytest.raises(CheckpointError, match=rf"{name} is \(16,\)"):
        inflate(network(VIDTR), image() | {name: torch.zeros(DIM)})


def test_an_incomplete_google_archive_is_refused_by_the_missing_name() -> None:
    weights = google()
    del weights["Transformer/encoderblock_1/LayerNorm_2/scale"]
    with pytest.raises(CheckpointError, match="missing Transformer/encoderblock_1/LayerNorm_2/scale"):
        inflate(network(VIDTR), weights)


def test_weights_of_no_known_image_network_are_refused() -> None:
    with pytest.raises(CheckpointError, match="no image ViT of a known kind"):
        inflate(network(VIDTR), {"layer1.0.conv1.weight": torch.zeros(4, 3, 3, 3)})
