"""Training: exact MXFP4, tokenizer, sequences, and runs that resume to the same weights."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest

REASON = "training needs the `train` extra (PyTorch, tokenizers, gguf)"
torch = pytest.importorskip("torch", reason=REASON)
gguf = pytest.importorskip("gguf", reason=REASON)
pytest.importorskip("tokenizers", reason=REASON)

from workers.nano import checkpoint as nano_checkpoint  # noqa: E402
from workers.nano import train as nano_train  # noqa: E402
from workers.nano.average import averaged  # noqa: E402
from workers.nano.calibrate import shifted_head  # noqa: E402
from workers.nano.deepen import deepened  # noqa: E402
from workers.nano.export import write_gguf  # noqa: E402
from workers.nano.generated import generated_example  # noqa: E402
from workers.nano.mixture import Corpus, Mixture, Shares  # noqa: E402
from workers.nano.model import Nano  # noqa: E402
from workers.nano.mxfp4 import round_to_mxfp4  # noqa: E402
from workers.nano.packing import BRIEF_TOKENS, Aim, Packer, build_masks, make_batch  # noqa: E402
from workers.nano.publish import SHIPPED  # noqa: E402
from workers.nano.restore import model_from_gguf  # noqa: E402
from workers.nano.shape import NanoShape  # noqa: E402
from workers.nano.supervision import _Layer, _spread_loss  # noqa: E402
from workers.nano.tokenizer import NanoTokenizer  # noqa: E402

TINY = {"width": 64, "n_layers": 2, "head_width": 32, "n_heads": 2, "expert_width": 64}


def test_fake_quantisation_is_ggufs() -> None:
    kind = gguf.GGMLQuantizationType.MXFP4
    weight = torch.randn(48, 96, generator=torch.Generator().manual_seed(0))
    weight[0, :32] = torch.arange(32) / 4  # every level and every tie
    weight[1, :32] = 0
    packed = gguf.quants.quantize(weight.numpy(), kind)
    assert np.array_equal(gguf.quants.dequantize(packed, kind), round_to_mxfp4(weight).numpy())


@pytest.mark.parametrize(
    "text",
    [
        "Marta Quill paid $1,234.56 million; Marta.",
        "“Smart”  spaces\n\n\n§ 4.2 – ____",
        "naïve 東京 \t",
    ],
)
def test_the_tokenizer_gives_text_back(text: str) -> None:
    tokenizer = NanoTokenizer.load()
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_special_names_in_a_document_stay_text() -> None:
    tokenizer = NanoTokenizer.load()
    ids = tokenizer.encode("<|return|>")
    assert tokenizer.ids["<|return|>"] not in ids


def test_the_decision_is_one_token() -> None:
    tokenizer = NanoTokenizer.load()
    assert tokenizer.encode(" null") == [tokenizer.ids["Ġnull"]]
    for value in ("Texas", "$5", "(a)", "“x", '\\"x'):
        assert tokenizer.encode(f' "{value}')[0] == tokenizer.ids['Ġ"']


def test_branches_see_the_chunk_and_themselves_only() -> None:
    branches = torch.tensor([[0, 0, 1, 1, 2]])
    positions = torch.tensor([[0, 1, 2, 3, 2]])
    _, full = build_masks(branches, positions, window=128)
    seen = (full[0, 0] == 0).int().tolist()
    assert seen == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],
    ]


def test_a_branch_ends_with_its_answer() -> None:
    tokenizer = NanoTokenizer.load()
    example = generated_example(3, "train", 60)
    sequence = Packer(tokenizer).pack(example, ["\n\nQuestion: "] * len(example.asked))
    text = tokenizer.decode(sequence.ids)
    assert text.startswith("<|start|>user<|message|>")
    assert text.count("<|return|>") == len(example.asked) == len(sequence.decisions)
    words = {tokenizer.vocabulary.tokens[sequence.ids[d]] for d in sequence.decisions}
    assert words <= {"Ġnull", 'Ġ"'}


def test_new_layers_change_nothing_until_they_are_trained() -> None:
    torch.manual_seed(0)
    tokenizer = NanoTokenizer.load()
    model = Nano(NanoShape(n_vocab=len(tokenizer), **TINY))
    deeper = deepened(model, at=2, seed=1)
    example = generated_example(3, "train", 40)
    packed = Packer(tokenizer).pack(example, ["\n\n"] * len(example.asked))
    batch = make_batch([packed], model.shape.sliding_window)
    before, after = (
        m(batch.ids, batch.positions, batch.tiles, None).logits for m in (model, deeper)
    )
    assert deeper.shape.n_layers == model.shape.n_layers + 2
    assert torch.equal(before, after)
    with pytest.raises(ValueError, match="even"):
        deepened(model, at=1, seed=1)


def test_the_mean_of_two_checkpoints_lies_between_them() -> None:
    one, other = {"a": torch.tensor([0.0, 2.0])}, {"a": torch.tensor([4.0, 2.0])}
    assert averaged(one, other, 0.25)["a"].tolist() == [1.0, 2.0]


def test_attention_is_told_where_facts_and_questions_meet() -> None:
    tokenizer = NanoTokenizer.load()
    example = generated_example(21, "standard", 60)
    packed = Packer(tokenizer).pack(example, ["\n\n"] * len(example.asked))
    tokens = tokenizer.vocabulary.tokens
    found = [aim for aim in packed.finds if aim.keys]
    assert found
    for aim in found:
        here = tokens[packed.ids[aim.row]].removeprefix("Ġ").lower()
        assert {tokens[packed.ids[k]].removeprefix("Ġ").lower() for k in aim.keys} == {here}
    rows = [d - 1 for d in packed.decisions]
    for aims in (packed.same_entity, packed.same_attribute):
        assert [aim.row for aim in aims] == rows
        assert all(k < packed.branches.count(0) for aim in aims for k in aim.keys)
    assert any(aim.keys for aim in packed.same_entity)


def test_what_is_said_of_a_thing_is_told_by_its_own_words() -> None:
    tokenizer = NanoTokenizer.load()
    packer = Packer(tokenizer)
    example = generated_example(21, "standard", 60)
    packed = packer.pack(example, ["\n\n"] * len(example.asked))
    words = [tokenizer.vocabulary.tokens[packed.ids[k]] for aim in packed.rests for k in aim.keys]
    assert words
    assert not {"Ġthe", "Ġof", "Ġis", "What", "?", ":"} & set(words)


def test_brief_answers_end_after_their_first_tokens() -> None:
    tokenizer = NanoTokenizer.load()
    packer = Packer(tokenizer)
    example = generated_example(21, "train", 60)
    separators = ["\n\n"] * len(example.asked)
    whole = packer.pack(example, separators)
    brief = packer.pack(example, separators, range(len(example.asked)))
    for number, asked in enumerate(example.asked, 1):
        ids = [i for i, branch in zip(brief.ids, brief.branches, strict=True) if branch == number]
        full = [i for i, branch in zip(whole.ids, whole.branches, strict=True) if branch == number]
        assert ids == full[: len(ids)] and len(ids) < len(full)
        answered = len(brief.ids) - brief.branches[::-1].index(number) - brief.decisions[number - 1]
        assert answered == (BRIEF_TOKENS if asked.answerable else 1)
    rows = [p.row for p in (*brief.answers, *brief.reads)] + [row for row, _ in brief.copies]
    assert max(rows) < len(brief)
    batch = make_batch([brief], 128)
    assert batch.ids.shape == batch.weights.shape == (1, len(brief))


def test_a_name_is_known_by_all_of_its_words() -> None:
    keys = torch.eye(6)[None]
    mask = torch.zeros(1, 1, 6, 6)
    aims = [[Aim(row=5, keys=(1, 2))]]

    def loss(*liked: int) -> float:
        query = torch.zeros(1, 6, 6)
        query[0, 5, list(liked)] = 30.0
        layer = _Layer(q=(query,), k=(keys,), sink=torch.zeros(1), mask=mask, pointer_head=0)
        return float(_spread_loss(layer, [0], aims))

    assert loss(1) > 3 * loss(1, 2)


def _trainer(plan: nano_train.Plan, **sizes: int) -> nano_train.Trainer:
    """A tiny model on generated documents only."""
    tokenizer = NanoTokenizer.load()
    corpus = Corpus(contracts=(), papers=(), tables=())
    shares = Shares(contracts=0, papers=0, tables=0, lookups=0, generated=1, max_generated_words=40)
    mixture, packer = Mixture(corpus, shares), Packer(tokenizer)
    if plan.out.exists():
        return nano_train.build_trainer(plan, mixture, packer, None)
    torch.manual_seed(0)
    model = Nano(NanoShape(n_vocab=len(tokenizer), **(TINY | sizes)))
    return nano_train.Trainer(model, mixture, packer, plan, 0)


def test_a_resumed_run_ends_in_the_same_weights(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    plan = nano_train.Plan(
        out=tmp_path / "whole.pt", n_tokens=4000, batch_tokens=900, bf16=False, warmup_steps=2
    )
    _trainer(plan).run()
    halves = dataclasses.replace(plan, out=tmp_path / "halves.pt")
    first = _trainer(halves)
    stream = first._stream()
    for _ in range(2):
        first._step(next(stream))
    first.save()
    _trainer(halves).run()
    whole, resumed = (nano_checkpoint.load_checkpoint(p.out) for p in (plan, halves))
    assert whole["progress"] == resumed["progress"]
    for name, tensor in whole["model"].items():
        assert torch.equal(tensor, resumed["model"][name]), name


def test_training_can_go_on_from_the_shipped_file(tmp_path: Path) -> None:
    tokenizer = NanoTokenizer.load()
    model = model_from_gguf(SHIPPED)
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    digest = write_gguf(model.shape, weights, tokenizer, tmp_path / "again.gguf")
    assert digest == hashlib.sha256(SHIPPED.read_bytes()).hexdigest()


def test_calibration_shifts_null_alone() -> None:
    generator = torch.Generator().manual_seed(1)
    head = torch.randn(9, 16, generator=generator)
    states = torch.randn(1, 16, generator=generator) + 0.01 * torch.randn(40, 16)
    shifted = shifted_head(head, states, null=4, shift=1.5)
    change = states @ (shifted - head).T
    assert torch.allclose(change[:, 4], torch.full((40,), 1.5), atol=0.2)
    assert torch.equal(change[:, [0, 1, 2, 3, 5, 6, 7, 8]], torch.zeros(40, 8))


@pytest.mark.parametrize("n_layers", [2, 6])
def test_a_batch_teaches_without_a_nan(tmp_path: Path, n_layers: int) -> None:
    plan = nano_train.Plan(out=tmp_path / "x.pt", n_tokens=1, bf16=False)
    trainer = _trainer(plan, n_layers=n_layers)
    example = generated_example(5, "train", 50)
    packed = trainer.packer.pack(example, ["\n\n"] * len(example.asked))
    batch = make_batch([packed], trainer.model.shape.sliding_window)
    loss, figures = nano_train.loss_of(trainer.model, batch, plan, 0)
    loss.backward()
    assert torch.isfinite(loss)
    assert figures.loss > 0
