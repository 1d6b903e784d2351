"""The parts of a standalone workflow file that the rest of the program has in another form.

They are modules like any other, so that they are checked and tested as such; `bundle` copies their
definitions, and whatever of the program they use, into the file. A definition here takes the place
of one of the same name there (`STAND_INS` in `workflows`). What they say is read by whoever
receives the file, so nothing in them refers to this package.
"""
