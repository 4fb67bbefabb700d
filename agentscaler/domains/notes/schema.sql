-- A person's notes: folders, notes, tags, sharing. The smallest complete world.
-- Every table is STRICT and has a primary key. Words in RAISE(ABORT, …) are what the agent reads.

CREATE TABLE folders (
  name        TEXT PRIMARY KEY CHECK (length(trim(name)) BETWEEN 1 AND 40),
  created_at  TEXT NOT NULL
) STRICT;

CREATE TABLE notes (
  note_id     TEXT PRIMARY KEY,                 -- made by new_id('notes'): a surrogate, its value means nothing
  title       TEXT NOT NULL UNIQUE CHECK (length(trim(title)) BETWEEN 1 AND 80),
  body        TEXT NOT NULL,
  folder      TEXT NOT NULL REFERENCES folders(name) ON UPDATE CASCADE,
  locked      INTEGER NOT NULL DEFAULT 0 CHECK (locked IN (0, 1)),
  updated_at  TEXT NOT NULL
) STRICT;
CREATE INDEX notes_by_folder ON notes(folder, title);

CREATE TABLE note_tags (
  note_id     TEXT NOT NULL REFERENCES notes(note_id) ON DELETE CASCADE,
  tag         TEXT NOT NULL CHECK (tag = lower(tag) AND length(tag) BETWEEN 1 AND 30),
  PRIMARY KEY (note_id, tag)
) STRICT;

CREATE TABLE shares (
  note_id     TEXT NOT NULL REFERENCES notes(note_id),
  person      TEXT NOT NULL CHECK (length(trim(person)) BETWEEN 1 AND 40),
  access      TEXT NOT NULL CHECK (access IN ('view', 'edit')),
  PRIMARY KEY (note_id, person)
) STRICT;

-- What bodies used to be. Written by a trigger, so it is exempt from state match.
CREATE TABLE note_history (
  note_id     TEXT NOT NULL,
  version     INTEGER NOT NULL,
  body        TEXT NOT NULL,
  PRIMARY KEY (note_id, version)
) STRICT;

CREATE TRIGGER keep_history AFTER UPDATE OF body ON notes BEGIN
  INSERT INTO note_history (note_id, version, body)
  SELECT old.note_id, coalesce(max(version), 0) + 1, old.body FROM note_history WHERE note_id = old.note_id;
END;

CREATE TRIGGER locked_notes_stay BEFORE UPDATE ON notes WHEN old.locked = 1 AND new.locked = 1 BEGIN
  SELECT RAISE(ABORT, 'This note is locked. It cannot be changed or moved.');
END;

CREATE TRIGGER locked_notes_are_kept BEFORE DELETE ON notes WHEN old.locked = 1 BEGIN
  SELECT RAISE(ABORT, 'This note is locked. It cannot be deleted.');
END;

CREATE TRIGGER shared_notes_are_kept BEFORE DELETE ON notes
WHEN EXISTS (SELECT 1 FROM shares WHERE note_id = old.note_id) BEGIN
  SELECT RAISE(ABORT, 'This note is shared. Stop sharing it with everyone before deleting it.');
END;
