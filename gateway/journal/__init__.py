"""The journal: append-only segment files, one writer a directory, read by everybody else.

    ROOT/<writer id>/lock                 held (flock) as long as the writer lives
    ROOT/<writer id>/<start offset>.seg   frames; the name is the offset of its first byte
    ROOT/<writer id>/let-go               how much of its beginning retention has deleted

Rules of the format:
- a process makes its own directory as `.new-<id>`, locks it, and only then renames it, so a
  directory that can be seen is either locked (its writer lives) or sealed (it never grows);
- a segment is never reopened for writing; offsets count over all segments of a writer;
- a frame is magic, length, CRC32 and one record (core/records.py);
- a bad frame at the end of a journal that still grows means *wait*; anywhere else the reader
  goes on at the next good frame and reports what it passed.
"""
