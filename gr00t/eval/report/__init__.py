"""The report of a run: Markdown, JSON, and one HTML page that needs nothing but itself.

`write_report` · `markdown`, `page`, `gallery`, `plots`, `facts`.
"""

from gr00t.eval.report.write import write_report

__all__ = ["write_report"]
