"""Train nano's vocabulary: `python -m workers.nano.make_vocabulary --help`.

Learns from the training side of the split only, plus generated documents. With `--base` an earlier
vocabulary keeps its ids and grows.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from workers.nano.clause_questions import WORDINGS
from workers.nano.contracts import load_contracts, read_rows
from workers.nano.generated import generated_example
from workers.nano.papers import load_papers, load_tables
from workers.nano.vocabulary import Vocabulary, train_vocabulary

PROMPT_WORDS = '{"answer": null, "citation": null} Question: Task: Q: assistant final user '
N_GENERATED = 3000
FIRST_GENERATED_SEED = 10**7


class _NoTokens:
    """Stands in for the tokenizer that does not exist yet; only texts are wanted here."""

    def encode(self, text: str) -> list[int]:
        """No tokens."""
        del text
        return []


def training_texts(data: Path) -> list[str]:
    """Texts to learn merges from; short kinds are repeated so that they count."""
    counting = _NoTokens()
    contracts = load_contracts(data / "cuad", counting, validation=False, collapsed=False)
    papers = load_papers(data / "covidqa", counting, validation=False)
    tables = load_tables(data / "tatqa", counting, validation=False)
    clause_questions = {row["question"] for row in read_rows(data / "cuad" / "questions.jsonl.gz")}
    texts = [d.text for d in (*contracts, *papers)] + [d.text for d in tables] * 2
    texts += sorted(clause_questions) * 40
    texts += [wording for wordings in WORDINGS.values() for wording in wordings] * 20
    texts += [q.wordings[0] for d in (*papers, *tables) for q in d.questions] * 5
    return [*texts, *generated_texts(), *[PROMPT_WORDS] * 200]


def generated_texts() -> list[str]:
    """Generated documents and their questions."""
    texts = []
    for seed in range(N_GENERATED):
        example = generated_example(FIRST_GENERATED_SEED + seed, target_words=150)
        texts += [example.text, *(asked.question for asked in example.asked)]
    return texts


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--base", type=Path, help="vocabulary to grow")
    parser.add_argument("--letter-merges", type=int, default=2600)
    parser.add_argument("--space-merges", type=int, default=1700)
    args = parser.parse_args()
    base = Vocabulary.load(args.base) if args.base else None
    texts = training_texts(args.data)
    vocabulary = train_vocabulary(texts, args.letter_merges, args.space_merges, base)
    vocabulary.save(args.out)
    print(f"{args.out}: {len(vocabulary.tokens)} tokens")  # noqa: T201


if __name__ == "__main__":
    main()
