import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from tests.generators.small_generators import CASES, GROUPED, IMAGENET, PLAIN, batch_for, flat_logits, from_files, make, make_head, size_of
from tokenizer.generators.ar import AutoregressiveGenerator
from tokenizer.generators.heads import DepthTransformer
from tokenizer.interfaces import TokenBatch
from tokenizer.layers.llama import SwiGLU
from tokenizer.layers.rope import rotate

every_case = pytest.mark.parametrize("case", CASES)
both_positions = pytest.mark.parametrize("positions", ["learned", "rotary"])


def test_rotary_positions_have_no_table():
    with torch.device("meta"):
        generator = from_files("ar", "parallel", IMAGENET, size_of("b"), positions="rotary")
    assert sum(parameter.numel() for parameter in generator.parameters()) == 110_888_448


def test_the_large_size_has_343_million_parameters_also_with_two_sub_tokens():
    large = replace(IMAGENET, codebook_size=2**18)
    with torch.device("meta"):
        head = DepthTransformer(large, 1024, 16, depth=2, dropout=0.1, bits=[6, 12])
        generator = AutoregressiveGenerator(large, 1024, 24, 16, "rotary", head, 0.1, 0.1)
    assert round(sum(parameter.numel() for parameter in generator.parameters()) / 1e6, 1) == 343.6


@every_case
@both_positions
def test_the_initial_loss_is_the_logarithm_of_the_vocabulary_of_each_sub_token(case, positions):
    generator = make(case, positions, start=True).train()
    nll = generator.nll(batch_for(generator.tokens))
    assert nll.shape == (3, 6, len(generator.heads))
    torch.testing.assert_close(nll, torch.tensor(generator.heads).log().expand_as(nll), atol=1e-4, rtol=0)
    assert nll[0, 0].sum().item() == pytest.approx(generator.tokens.groups * math.log(generator.tokens.codebook_size), abs=1e-4)


@every_case
def test_nll_is_the_cross_entropy_of_the_logits(case):
    generator = make(case)
    batch = batch_for(generator.tokens)
    sub_tokens = generator.head.split(batch.indices)
    expected = [
        F.cross_entropy(part.movedim(-1, 1), sub_tokens[..., s], reduction="none") for s, part in enumerate(generator.logits(batch))
    ]
    torch.testing.assert_close(generator.nll(batch), torch.stack(expected, -1), atol=1e-5, rtol=1e-5)


@every_case
@both_positions
@pytest.mark.parametrize("bucket", [1, 4])
def test_steps_see_the_logits_of_the_full_pass_and_return_what_was_picked(case, positions, bucket):
    generator = make(case, positions)
    batch = batch_for(generator.tokens)
    sub_tokens = generator.head.split(batch.indices)
    state = generator.start(batch.labels)
    state.cache.bucket = bucket  # 4: masked attention over 4 and then 6 positions, as on a GPU
    seen, drawn, visible = [], [], []
    for token in range(generator.tokens.num_tokens):
        visible.append(state.visible_length)

        def pick(logits: torch.Tensor, sub_token: int, token: int = token) -> torch.Tensor:
            seen.append(logits[:, 0])
            return sub_tokens[:, token, sub_token, None]

        drawn.append(generator.step(state, pick))
    expected = flat_logits(generator, batch)
    torch.testing.assert_close(torch.cat(seen, -1), expected.flatten(1), atol=1e-5, rtol=1e-5)
    assert torch.equal(torch.cat(drawn, 1), batch.indices)
    assert visible == ([1, 2, 3, 4, 5, 6] if bucket == 1 else [4, 4, 4, 4, 6, 6])
    with pytest.raises(ValueError, match="all 6 tokens are drawn"):
        generator.step(state, pick)


@every_case
@both_positions
def test_a_token_changes_no_logits_up_to_its_own_and_some_after(case, positions):
    generator = make(case, positions)
    batch = batch_for(generator.tokens)
    first = generator.logits(batch)[0]
    for token in range(generator.tokens.num_tokens):
        indices = batch.indices.clone()
        indices[:, token] = (indices[:, token] + 1) % generator.tokens.codebook_size
        changed = (generator.logits(replace(batch, indices=indices))[0] - first).abs().amax((0, 2)) > 1e-6
        assert changed.tolist() == [False] * (token + 1) + [True] * (generator.tokens.num_tokens - token - 1)


def test_a_rotary_generator_turns_a_token_by_its_own_cell():
    generator = make("plain", "rotary")
    state = generator.start(torch.tensor([0]))
    angles = torch.atan2(state.rotation[..., 1], state.rotation[..., 0])
    class_then_cells = torch.tensor([[0.0, 0], [0, 0], [0, 1], [0, 2], [1, 0], [1, 1]])
    torch.testing.assert_close(angles[:, [0, 2]], class_then_cells)


def test_the_first_position_reads_the_class_and_label_minus_one_is_the_null_class():
    generator = make()
    batch = batch_for(generator.tokens)
    logits = [flat_logits(generator, replace(batch, labels=torch.full((3,), label))) for label in (-1, 3, 0)]
    assert torch.equal(logits[0], logits[1])
    assert ((logits[0] - logits[2]).abs().amax((0, 2)) > 1e-6).all()


def test_classes_are_dropped_in_training_only_and_at_their_rate():
    generator = make()
    tokens = replace(PLAIN, num_tokens=6)
    generator.dropout.p = 0.0
    for block in generator.blocks:
        block.dropout.p = 0.0
    batch = TokenBatch(batch_for(tokens, 1).indices.expand(2000, -1, -1), torch.zeros(2000, dtype=torch.int64), tokens.layout)
    null = replace(batch, labels=torch.full((2000,), -1))
    with torch.no_grad():
        with_class, without_class = generator.nll(batch)[0], generator.nll(null)[0]
        torch.manual_seed(0)
        trained = generator.train().nll(batch)
    is_dropped = ((trained - without_class).abs().amax((1, 2)) < 1e-5).float()
    is_kept = ((trained - with_class).abs().amax((1, 2)) < 1e-5).float()
    assert torch.equal(is_dropped + is_kept, torch.ones(2000))
    assert is_dropped.mean().item() == pytest.approx(0.1, abs=0.02)


def test_dropout_acts_in_training_only():
    generator = make()
    generator.class_dropout = 0.0
    batch = batch_for(generator.tokens)
    assert torch.equal(generator.nll(batch), generator.nll(batch))
    generator.train()
    assert not torch.equal(generator.nll(batch), generator.nll(batch))


def test_features_are_the_residual_stream_after_a_block():
    generator = make()
    batch = batch_for(generator.tokens)
    taken = []
    generator.blocks[0].register_forward_hook(lambda module, inputs, output: taken.append(output))
    features = [generator.features(batch, block) for block in (1, 2)]
    assert torch.equal(features[0], taken[0])
    torch.testing.assert_close(features[1], generator.blocks[1](features[0]))
    logits = F.linear(generator.norm(features[1]), generator.head.output.weight)
    torch.testing.assert_close(logits, flat_logits(generator, batch))
    for block in (0, 3):
        with pytest.raises(ValueError, match=f"block={block}"):
            generator.features(batch, block)


@pytest.mark.slow
def test_a_few_updates_memorize_random_indices():
    generator = make("bits of groups in depth", start=True)
    batch = batch_for(generator.tokens, rows=4)
    optimizer = torch.optim.AdamW(generator.parameters(), lr=5e-3)
    first = generator.nll(batch).mean().item()
    for _ in range(240):  # a depth head that takes the residual stream starts from a smaller signal than from a norm's output
        loss = generator.nll(batch).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < first / 10


def test_the_cache_has_the_dtype_of_the_parameters_or_of_autocast():
    generator, labels = make(), torch.tensor([0, 3])
    assert generator.start(labels).cache.dtype == torch.float32
    assert generator.start(labels).cache.shape == (2, 2, 2, 6, 8)
    with torch.autocast("cpu", torch.bfloat16):
        state = generator.start(labels)
        generator.step(state, lambda logits, _: logits.argmax(-1))
    assert state.cache.dtype == torch.bfloat16
    assert generator.bfloat16().start(labels).cache.dtype == torch.bfloat16


@pytest.mark.parametrize("kind", ["sequence", "merged"])
def test_rotary_positions_for_tokens_without_a_cell_are_refused(kind):
    tokens = replace(PLAIN, kind=kind)
    with pytest.raises(ValueError, match=f"6 tokens of kind {kind} .* set generator.positions=learned"):
        AutoregressiveGenerator(tokens, 16, 1, 2, "rotary", make_head("parallel", tokens), 0.0, 0.0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"width": 12, "attention_heads": 2, "positions": "rotary"}, "multiple of 4, got 6"),
        ({"attention_heads": 3}, "attention_heads=3, expected a divisor of the width 16"),
        ({"positions": "sine"}, "positions=sine"),
        ({"depth": 0}, "depth=0"),
        ({"class_dropout": 1.5}, "class_dropout=1.5"),
        ({"head": make_head("parallel", replace(PLAIN, groups=2))}, "head.tokens"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_by_name(changed, message):
    sizes = {"width": 16, "depth": 1, "attention_heads": 2, "positions": "learned", "dropout": 0.0, "class_dropout": 0.0, **changed}
    head = sizes.pop("head", make_head("parallel", PLAIN, width=sizes["width"]))
    with pytest.raises(ValueError, match=message):
        AutoregressiveGenerator(PLAIN, head=head, **sizes)


def test_dropout_acts_on_the_embeddings_of_class_and_tokens():
    tokens = replace(PLAIN, num_classes=3)
    generator = AutoregressiveGenerator(tokens, 16, 1, 2, "rotary", make_head("parallel", tokens), dropout=0.5, class_dropout=0.0).train()
    read = []
    generator.blocks[0].register_forward_pre_hook(lambda module, inputs: read.append(inputs[0].detach()))
    torch.manual_seed(0)
    generator.nll(batch_for(tokens, rows=40))
    for part in (read[0][:, :1], read[0][:, 1:]):
        assert (part == 0).float().mean().item() == pytest.approx(0.5, abs=0.08)


def test_a_wrong_number_of_tokens_and_labels_out_of_range_are_refused():
    generator = make()
    batch = batch_for(replace(PLAIN, num_tokens=5))
    with pytest.raises(ValueError, match=r"\(3, 5, 1\), expected .* \(6, 1\)"):
        generator.nll(batch)
    for label in (-1, 4):
        with pytest.raises(ValueError, match=f"label {label}, expected 0 to 2, or 3 for no class"):
            generator.start(torch.tensor([label]))
    with pytest.raises(ValueError, match="training mode"):
        generator.train().start(torch.tensor([0]))


@pytest.mark.slow
def test_compiled_blocks_give_the_same_results_in_training_and_in_steps():
    plain, compiled = make("plain"), make("plain")
    compiled.blocks.compile_each()
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    batch = batch_for(plain.tokens)
    losses = [generator.eval().nll(batch).mean() for generator in (plain, compiled)]
    torch.testing.assert_close(losses[1], losses[0])
    for loss in losses:
        loss.backward()
    for parameter, expected in zip(compiled.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, expected.grad)
    for bucket in (1, 4):
        state = compiled.start(batch.labels)
        state.cache.bucket = bucket
        for token, expected in enumerate(plain.logits(batch)[0].unbind(1)):

            def pick(logits: torch.Tensor, _: int, token: int = token, expected: torch.Tensor = expected) -> torch.Tensor:
                torch.testing.assert_close(logits[:, 0], expected, atol=1e-5, rtol=1e-5)
                return batch.indices[:, token]

            compiled.step(state, pick)


def test_a_final_norm_of_the_trunk_changes_nothing_in_the_input_of_a_depth_head_with_layers():
    generator = make("groups in depth")
    batch = batch_for(generator.tokens)
    taken = []
    generator.head.blocks[0].register_forward_pre_hook(lambda module, inputs: taken.append(inputs[0][:, 0]))
    generator.nll(batch)
    residual = generator.features(batch, 2).flatten(0, 1) + generator.head.places[0]
    torch.testing.assert_close(taken[0], residual)
    assert not any("norm" in name for name, _ in generator.named_parameters() if "." not in name.removesuffix(".weight"))


def test_a_head_without_layers_takes_the_normalized_output_of_the_trunk():
    generator = make("plain with a depth head")
    batch = batch_for(generator.tokens)
    residual = generator.features(batch, 2)
    normalized = residual / (residual.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(flat_logits(generator, batch), normalized @ generator.head.output.weight.T)


def test_a_zero_prefix_multiplies_query_and_key_of_the_class_by_zero():
    generator = AutoregressiveGenerator(PLAIN, 16, 1, 2, "rotary", make_head("parallel", PLAIN), 0.0, 0.0, prefix="zero").eval()
    rotation = generator.start(torch.tensor([0])).rotation
    features = torch.ones(1, 2, 6, 8)
    turned = rotate(features, rotation)
    assert torch.equal(turned[:, :, 0], torch.zeros(1, 2, 8))
    identity = AutoregressiveGenerator(PLAIN, 16, 1, 2, "rotary", make_head("parallel", PLAIN), 0.0, 0.0).eval()
    other = identity.start(torch.tensor([0])).rotation
    assert torch.equal(rotation[1:], other[1:])
    assert torch.equal(rotate(features, other)[:, :, 0], features[:, :, 0])


@pytest.mark.parametrize(
    ("positions", "prefix", "named"), [("learned", "zero", "prefix=zero: no effect"), ("rotary", "none", "prefix=none: expected one of")]
)
def test_a_prefix_without_effect_or_meaning_is_refused(positions, prefix, named):
    with pytest.raises(ValueError, match=named):
        AutoregressiveGenerator(PLAIN, 16, 1, 2, positions, make_head("parallel", PLAIN), 0.0, 0.0, prefix=prefix)


def test_multiple_and_epsilon_reach_all_layers_of_trunk_and_head():
    head = DepthTransformer(GROUPED, 16, 2, depth=1, feedforward_multiple=7, norm_eps=1e-3)
    generator = AutoregressiveGenerator(GROUPED, 16, 2, 2, "learned", head, 0.0, 0.0, feedforward_multiple=7, norm_eps=1e-3)
    norms = [module.eps for module in generator.modules() if isinstance(module, torch.nn.RMSNorm)]
    hidden = [module.outer.in_features for module in generator.modules() if isinstance(module, SwiGLU)]
    assert norms == [1e-3] * (2 * 2 + 2 * 1 + 1)
    assert hidden == [42] * 3  # int(8 / 3 * 16) = 42, a multiple of 7


def test_a_state_takes_memory_for_keys_and_values_from_its_first_step_on():
    state = (generator := make()).start(torch.tensor([0, 3]))
    assert (state.cache.keys, state.cache.values) == (None, None)
    generator.step(state, lambda logits, _: logits.argmax(-1))
    assert state.cache.keys.shape == state.cache.values.shape == (2, 2, 2, 6, 8)
