"""What a section found, as text and as the tables of docs/benchmarks.md."""

import re
import time

BEGIN = "<!-- numbers: written by make bench, not by hand -->"
END = "<!-- end of numbers -->"


def number(value):
    """Three significant digits, or all of those before the point."""
    if isinstance(value, str):
        return value
    if value is None:
        return "–"
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


class NotMeasured(Exception):
    """Raised by a section that cannot be measured here, with the reason: older numbers of it stay."""


class Section:
    """Tables of numbers, ratios with the target of each, and remarks."""

    def __init__(self, title):
        self.title = title
        self.tables = []
        self.ratios = []
        self.notes = []
        self.seconds = 0.0

    def table(self, columns, rows):
        self.tables.append({"columns": list(columns), "rows": [[number(cell) for cell in row] for row in rows]})

    def ratio(self, what, value, at_most=None, at_least=None, digits=3):
        """A ratio to show; with a bound it is a target, which is met or not."""
        target = f"≤ {at_most:g}" if at_most is not None else f"≥ {at_least:g}" if at_least is not None else ""
        met = "" if not target else "met" if (value <= at_most if at_most is not None else value >= at_least) else "NOT met"
        self.ratios.append([what, f"{value:.{digits}f}" if value < 10 else number(value), target, met])

    def note(self, text):
        self.notes.append(text)

    def as_dict(self):
        return {"title": self.title, "tables": self.tables, "ratios": self.ratios, "notes": self.notes, "seconds": round(self.seconds),
                "when": time.strftime("%Y-%m-%d")}  # fmt: skip


def markdown_table(columns, rows):
    head = ["| " + " | ".join(columns) + " |", "|" + "|".join(["---"] + ["---:"] * (len(columns) - 1)) + "|"]
    return "\n".join(head + ["| " + " | ".join(row) + " |" for row in rows])


def section_text(section):
    parts = [markdown_table(table["columns"], table["rows"]) for table in section["tables"]]
    if section["ratios"]:
        parts.append(markdown_table(["ratio", "measured", "target", ""], section["ratios"]))
    parts += section["notes"]
    return "\n\n".join(parts)


def block(name, section, machine):
    return f"### {section['title']} (`{name}`)\n\n{section_text(section)}\n\n{section['when']}, {machine}; took {section['seconds']} s.\n"


def fill_in(document, results, order):
    """The document with the blocks of these results; those of sections that were not run stay as they are."""
    before, rest = document.split(BEGIN, 1)
    old, after = rest.split(END, 1)
    blocks = {}
    for text in re.split(r"(?m)^(?=### )", old):
        name = re.match(r"### .*\(`(\w+)`\)$", text, re.MULTILINE)
        if name:
            blocks[name.group(1)] = text.strip() + "\n"
    for name, section in results["sections"].items():
        blocks[name] = block(name, section, results["machine"])
    numbers = "\n".join(blocks[name] for name in order if name in blocks)
    return f"{before}{BEGIN}\n\n{numbers}\n{END}{after}"
