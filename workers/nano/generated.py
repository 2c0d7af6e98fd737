import sys
sys.path.insert(0, "/tmp/nano/proto")
import gen
from workers.nano.examples import Asked, Example


def generated_example(seed, split="train", target_words=120, n_questions=6, p_absent=0.4):
    text, qs, genre = gen.make_chunk(seed, split, target_words, None, n_questions, p_absent)
    out = []
    for q, c, a in qs:
        if c is None:
            out.append(Asked(question=q)); continue
        s = text.find(c); v = s + c.find(a)
        if s < 0 or c.find(a) < 0: continue
        out.append(Asked(question=q, value_span=(v, v + len(a)), quote_span=(s, s + len(c))))
    return Example(text=text, asked=tuple(out), source="generated:" + genre)
