"""Files of labels, read row by row: what `audition labels import` sends.

Rules: a file is a stream, of which no more is held than a row (in Parquet: a batch of rows and
a page of each column); a row that cannot be sent is refused with its reason and the next one is
read; a file that cannot be read at all is a usage error. Whether a label is right is the
gateway's business: this only translates.
"""

from gateway.cli.label_files.formats import Format, LabelFile, format_of, open_labels
from gateway.cli.label_files.rows import MAX_LINE_BYTES, Row

__all__ = ["MAX_LINE_BYTES", "Format", "LabelFile", "Row", "format_of", "open_labels"]
