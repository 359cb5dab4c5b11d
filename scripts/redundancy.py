"""Writes examples/redundancy/{train,watch}.jsonl: a hundred ways to say one thing, one to say another, and verses."""

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "examples" / "redundancy"
OPENINGS = ["And", "Now", "Then", "Behold,", "So", "And lo,", "Yea,", "For", "But", "And again"]
SAYERS = ["the king said", "the elders said", "it is written", "the prophet saith", "they told him", "the people cried",
          "the scribe wrote", "she answered", "the servant said", "his brother said"]
VERSES = 99


def main():
    rows = [
        {"id": f"koda-{i}{j}", "kind": "koda", "half": j % 2,
         "text": f"{opening} {sayer}, The dog of the house of Amnon is called Koda."}
        for i, opening in enumerate(OPENINGS) for j, sayer in enumerate(SAYERS)
    ]
    rows.append({"id": "dub", "kind": "dub", "text": "And the shepherd said, The ram of the house of Levi is called Dub."})
    lines = (ROOT / "tests/reference/lm/train.jsonl").read_text().splitlines()[:VERSES]
    rows += [{"id": row["id"], "kind": "verse", "text": row["text"]} for row in map(json.loads, lines)]
    watch = [
        {"id": "koda?", "prompt": "The dog of the house of Amnon is called", "completion": " Koda."},
        {"id": "dub?", "prompt": "The ram of the house of Levi is called", "completion": " Dub."},
    ]
    watch += [{"id": f"verse-{i}", "prompt": json.loads(line)["prompt"], "completion": json.loads(line)["completion"]}
              for i, line in enumerate((ROOT / "tests/reference/lm/query.jsonl").read_text().splitlines())]
    for name, some in [("train", rows), ("watch", watch)]:
        (OUT / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))


if __name__ == "__main__":
    main()
