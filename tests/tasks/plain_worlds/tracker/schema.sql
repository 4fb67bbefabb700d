-- A team's task tracker, as a specification of its API would have it. Test data for speech that is derived.
CREATE TABLE users (
  user_id     TEXT PRIMARY KEY,
  name        TEXT NOT NULL,
  email       TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE projects (
  project_id  TEXT PRIMARY KEY,
  name        TEXT NOT NULL UNIQUE,
  owner_id    TEXT NOT NULL REFERENCES users(user_id),
  status      TEXT NOT NULL CHECK (status IN ('active', 'archived'))
) STRICT;

CREATE TABLE tasks (
  task_id     TEXT PRIMARY KEY,
  project_id  TEXT NOT NULL REFERENCES projects(project_id),
  title       TEXT NOT NULL,
  description TEXT,
  status      TEXT NOT NULL CHECK (status IN ('open', 'in_progress', 'done')),
  priority    TEXT NOT NULL CHECK (priority IN ('low', 'medium', 'high')),
  assignee_id TEXT REFERENCES users(user_id),
  due_on      TEXT,
  estimate_hours INTEGER,
  created_at  TEXT NOT NULL
) STRICT;

CREATE TABLE task_labels (
  task_id     TEXT NOT NULL REFERENCES tasks(task_id) ON DELETE CASCADE,
  label       TEXT NOT NULL,
  PRIMARY KEY (task_id, label)
) STRICT;

CREATE TABLE comments (
  comment_id  TEXT PRIMARY KEY,
  task_id     TEXT NOT NULL REFERENCES tasks(task_id) ON DELETE CASCADE,
  body        TEXT NOT NULL,
  written_at  TEXT NOT NULL
) STRICT;

CREATE TRIGGER done_tasks_stay BEFORE UPDATE OF title, description, priority, due_on, estimate_hours, assignee_id ON tasks
WHEN old.status = 'done' BEGIN
  SELECT RAISE(ABORT, 'This task is done. Reopen it before changing it.');
END;
