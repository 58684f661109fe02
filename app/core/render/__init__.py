"""A report, rendered: `formats.FORMATS` lists every form that it is given out in."""
