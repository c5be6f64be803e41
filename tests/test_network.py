"""The pruned, cropped network against the plain one; parity with the published weights; gradients everywhere."""

import numpy as np
import pytest
import torch
from torch import nn

from model.config import EXPERIMENTS, RECIPES
from model.inference import Emulator
from model.nn import Batch, DensityNetwork
from model.nn.transformer import EncoderLayer, attention, dropout
from model.run_folder.authors_checkpoint import main as convert
from model.run_folder.authors_checkpoint import read


def make_batch(n_columns: int, length: int, padded_to: int | None = None, seed=3, continuous=False) -> Batch:
    dtype = torch.float64
    generator = torch.Generator().manual_seed(seed)
    token = torch.rand(16, n_columns, generator=generator).topk(length).indices + 1
    token[torch.rand(token.shape, generator=generator) < 0.3] = 0
    value = torch.randn(token.shape, generator=generator, dtype=dtype) * (token > 0)
    request = torch.randint(1, n_columns + 1, (16,), generator=generator)
    target = torch.randn(16, generator=generator, dtype=dtype)
    if padded_to:
        token = nn.functional.pad(token, (0, padded_to - length))
        value = nn.functional.pad(value, (0, padded_to - length))
    t = torch.rand(16, 3, generator=generator, dtype=dtype)  # times of the improved head, or steps of the published one
    noise = torch.randn(16, 3, 1, generator=generator, dtype=dtype)
    return Batch(token, value, request, target, t if continuous else (4 * t).long(), noise)


def plain_encoder(network: DensityNetwork, experiment) -> nn.TransformerEncoder:
    """PyTorch's own encoder with the same weights."""
    config = experiment.network
    layer = nn.TransformerEncoderLayer(
        config.embedding_dim, config.heads, config.feedforward_dim, config.dropout, "gelu", batch_first=True
    )
    encoder = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False).double().train(network.training)
    for ours, theirs in zip(network.encoder.layers, encoder.layers):
        state = {k: v for k, v in ours.state_dict().items() if not k.startswith(("qkv", "out"))}
        state |= {f"self_attn.in_proj_{k}": v for k, v in ours.qkv.state_dict().items()}
        state |= {f"self_attn.out_proj.{k}": v for k, v in ours.out.state_dict().items()}
        theirs.load_state_dict(state)
    return encoder


@pytest.mark.parametrize("length", [0, 1, 7])
def test_loss_and_gradients_equal_those_of_the_plain_padded_network(length):
    experiment = EXPERIMENTS["california_housing"].override(dropout=0.0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = DensityNetwork(9, experiment).double().train()
        plain = plain_encoder(network, experiment)
    ours = network(make_batch(9, length)).mean()
    ours.backward()
    gradients = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    network.zero_grad()

    batch = make_batch(9, length, padded_to=12)
    x = torch.cat(
        [network.embedding.name(batch.request).unsqueeze(1), network.embedding(batch.token, batch.value)], dim=1
    )
    is_pad = nn.functional.pad(batch.token == 0, (1, 0), value=False)
    cond = plain(x, src_key_padding_mask=is_pad)[:, 0]
    literal = network.head.loss(batch.target[:, None], cond, batch.t, batch.noise).mean()
    literal.backward()
    assert abs(ours - literal) < 1e-12
    for name, p in network.head.named_parameters(prefix="head"):
        torch.testing.assert_close(gradients[name], p.grad, rtol=1e-9, atol=1e-12)
    for name, p in network.embedding.named_parameters(prefix="embedding"):
        torch.testing.assert_close(gradients[name], p.grad, rtol=1e-9, atol=1e-12)
    for i, layer in enumerate(plain.layers):
        for ours_name, theirs in (
            ("qkv.weight", layer.self_attn.in_proj_weight),
            ("qkv.bias", layer.self_attn.in_proj_bias),
            ("out.weight", layer.self_attn.out_proj.weight),
            ("linear1.weight", layer.linear1.weight),
            ("linear2.bias", layer.linear2.bias),
            ("norm2.weight", layer.norm2.weight),
        ):
            torch.testing.assert_close(gradients[f"encoder.layers.{i}.{ours_name}"], theirs.grad, rtol=1e-9, atol=1e-12)


# 32 = embedding_dim: trap 1, a condition that slips through unprojected.
SIZES = {"embedding_dim": 32, "heads": 4, "layers": 2, "diffusion_steps": 4, "feedforward_dim": 64, "head_layers": 2}


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("width", [64, 32])
def test_every_parameter_gets_a_gradient(width, recipe):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        experiment = EXPERIMENTS["california_housing"].override(recipe=recipe, head_width=width, **SIZES)
        network = DensityNetwork(9, experiment).double().eval()
    # Each layer's every step must be drawn, so several batches are summed.
    sum(network(make_batch(9, 7, seed=i, continuous=recipe == "improved")).mean() for i in range(8)).backward()
    dim = 32
    for name, p in network.named_parameters():
        gradient = p.grad
        if name == "embedding.periodic.weight":  # shared by the columns: it has no row of padding
            gradient = torch.cat([torch.zeros_like(gradient[:1]), gradient])
        if name.endswith("qkv.bias"):  # the key's bias shifts all scores alike: its gradient is identically zero
            gradient = torch.cat([gradient[:dim], gradient[2 * dim :]])
        if name.startswith("embedding."):  # row 0 is padding
            assert not gradient[0].any()
            gradient = gradient[1:]
        rows = gradient.reshape(len(gradient), -1).abs().sum(1)
        assert (rows > 0).all(), f"{name}: {int((rows == 0).sum())} of {len(rows)} rows without a gradient"


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("width", [64, 32])
def test_samples_depend_on_the_condition(width, recipe):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        experiment = EXPERIMENTS["california_housing"].override(recipe=recipe, head_width=width, **SIZES)
        head = DensityNetwork(9, experiment).head
        cond = torch.randn(2, 32)
    first, second = (head.sample(c[None], 100, torch.Generator().manual_seed(0)) for c in cond)
    assert (first - second).abs().mean() > 0.01


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_order_of_the_context_and_padding_do_not_matter(recipe):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        experiment = EXPERIMENTS["california_housing"].override(recipe=recipe, head_width=16, **SIZES)
        network = DensityNetwork(9, experiment).double().eval()
    batch = make_batch(9, 7)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    one = network.encode(batch.token, batch.value, batch.request)
    other = network.encode(batch.token[:, order], batch.value[:, order], batch.request)
    torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
    padded = make_batch(9, 7, padded_to=12)
    torch.testing.assert_close(network.encode(padded.token, padded.value, padded.request), one, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("experiment", "n_columns", "counts"),
    [("stars", 118, (3_774_465, 1_853_441)), ("california_housing", 9, (47_425, 21_377))],
)
def test_published_parameter_counts(experiment, n_columns, counts):
    with torch.random.fork_rng():
        assert DensityNetwork(n_columns, EXPERIMENTS[experiment]).count_parameters() == counts


@pytest.mark.real_data
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_parity_with_the_published_weights(real_data, dtype, tolerance):
    reference = np.load(real_data("authors_california/reference.npz"))
    network = read(real_data("authors_california")).network.to(dtype)

    def tensor(name):
        array = torch.from_numpy(reference[name])
        return array.to(dtype) if array.is_floating_point() else array

    with torch.no_grad():
        cond = network.encode(tensor("token"), tensor("value"), tensor("request"))
        denoiser = network.head.denoiser
        noise = denoiser(tensor("x_t"), tensor("t"), denoiser.project(tensor("cond")))
    assert (cond - tensor("cond")).abs().max() < tolerance
    assert (noise - tensor("noise")).abs().max() < tolerance
    assert np.allclose(network.head.schedule.betas.numpy(), reference["betas"], rtol=1e-6)


@pytest.mark.real_data
def test_converted_checkpoint_answers(real_data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["authors_checkpoint", str(real_data("authors_california")), str(tmp_path / "run")])
    convert()
    emulator = Emulator.load(tmp_path / "run", "cpu")
    assert "47,425 parameters" in capsys.readouterr().out
    poor, rich = emulator.conditional("HouseValue", {"MedInc": [1.0, 7.0]}).median()
    assert 0.3 < poor < 1.5 < 2.5 < rich < 5.1


def test_a_folder_that_is_not_the_authors_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        read(tmp_path)


def test_dropout_drops_the_right_share_and_keeps_the_mean():
    n = 400_000
    with torch.random.fork_rng():
        torch.manual_seed(0)
        x = torch.ones(n + 1, requires_grad=True)  # no multiple of four
        y = dropout(x, 0.2)
        other = dropout(x, 0.2)
    share = (y == 0).float().mean().item()
    assert abs(share - 0.2) < 4 * np.sqrt(0.16 / n)
    assert y.max().item() == pytest.approx(1.25, rel=1e-4)
    assert not torch.equal(y, other)
    assert abs(np.corrcoef((y == 0)[:-1].numpy(), (y == 0)[1:].numpy())[0, 1]) < 4 / np.sqrt(n)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())  # the gradient passes where the value did
    with torch.random.fork_rng():
        layer = EncoderLayer(EXPERIMENTS["california_housing"].network).eval()
    hidden, attend = torch.ones(2, 3, 32), torch.ones(2, 1, 1, 3, dtype=torch.bool)
    assert torch.equal(layer(hidden, attend), layer(hidden, attend))  # none in evaluation


def test_patches_of_a_long_vector_reach_the_condition_value_by_value():
    groups = ("spectrum",) * 25 + ("teff", "logg")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        experiment = EXPERIMENTS["mixture"].override(recipe="improved", head_width=8, **SIZES)
        network = DensityNetwork(27, experiment, groups).double().train()
    assert network.slots.single.tolist() == [25, 26]
    z = torch.randn(4, 27, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    given = torch.ones(4, 27, dtype=torch.bool)
    given[:, [3, 26]] = False

    def cond(z, given):
        token, value, patch = network.slots.pack(z, given)
        return network.encode(token, value, torch.full((4,), 27), patch)

    reference = cond(z, given)
    for column in range(27):
        other = z.clone()
        other[:, column] += 1
        moved = (cond(other, given) - reference).abs().amax(1)
        assert (moved > 1e-9).all() == bool(given[0, column])
    fewer = given.clone()
    fewer[:, 10:20] = False  # an empty patch is masked, whatever its values are
    assert torch.equal(cond(z, fewer), cond(z.masked_fill(~fewer, 9.0), fewer))
    reference.square().sum().backward()
    for name, p in network.patch_embedding.named_parameters():
        assert p.grad.abs().sum() > 0, name


def test_bf16_leaves_the_first_guess_in_full_precision():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = DensityNetwork(4, EXPERIMENTS["mixture"].override(recipe="improved", head_width=64, **SIZES)).head
        cond, x_0 = torch.randn(64, 32), torch.randn(64, 1)
    t, noise = head.draw(64, 4, torch.Generator().manual_seed(0))
    exact, exact_guess = head.loss(x_0, cond, t, noise), head.first_guess(cond)
    with torch.autocast("cpu", torch.bfloat16):
        rounded, guess = head.loss(x_0, cond, t, noise), head.first_guess(cond)
    assert guess[0].dtype == rounded.dtype == torch.float32
    torch.testing.assert_close(guess, exact_guess)
    torch.testing.assert_close(rounded, exact, rtol=0.02, atol=0.02)


def test_attention_written_out_is_torchs():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        q, k, v = torch.randn(4, 2, 1, 8), torch.randn(4, 2, 5, 8), torch.randn(4, 2, 5, 8)
        attend = torch.rand(4, 1, 1, 5) < 0.6
        attend[..., 0] = True  # the request always takes part
        torchs = attention(q, k, v, attend, 0.0)
        q.requires_grad_()  # where a gradient is wanted
        written_out = attention(q, k, v, attend, 0.0).detach()
        torch.testing.assert_close(written_out, torchs)
        dropped = torch.stack([attention(q, k, v, attend, 0.5).detach() for _ in range(4000)])
    # Dropout keeps the mean of what it drops from.
    error = dropped.mean(0) - written_out
    assert (error.abs() < 5 * dropped.std(0) / 4000**0.5 + 1e-4).all()
