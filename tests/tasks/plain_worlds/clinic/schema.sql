-- A clinic's appointments, with keys that are all called id. Test data for speech that is derived.
CREATE TABLE doctors (
  id          INTEGER PRIMARY KEY,
  name        TEXT NOT NULL,
  specialty   TEXT NOT NULL CHECK (specialty IN ('general_medicine', 'dermatology', 'cardiology', 'paediatrics'))
) STRICT;

CREATE TABLE patients (
  id          INTEGER PRIMARY KEY,
  first_name  TEXT NOT NULL,
  last_name   TEXT NOT NULL,
  birth_date  TEXT NOT NULL,
  email       TEXT UNIQUE,
  phone       TEXT NOT NULL,
  city        TEXT NOT NULL,
  reminders   INTEGER NOT NULL CHECK (reminders IN (0, 1))  -- whether reminders are sent
) STRICT;

CREATE TABLE appointments (
  id          INTEGER PRIMARY KEY,
  patient_id  INTEGER NOT NULL REFERENCES patients(id),
  doctor_id   INTEGER NOT NULL REFERENCES doctors(id),
  starts_at   TEXT NOT NULL,
  status      TEXT NOT NULL CHECK (status IN ('booked', 'confirmed', 'cancelled', 'attended')),
  cancel_reason TEXT,
  fee_cents   INTEGER NOT NULL,
  UNIQUE (doctor_id, starts_at)
) STRICT;

CREATE TABLE prescriptions (
  id          INTEGER PRIMARY KEY,
  patient_id  INTEGER NOT NULL REFERENCES patients(id),
  medicine    TEXT NOT NULL,
  dose_mg     INTEGER NOT NULL,
  repeats_left INTEGER NOT NULL CHECK (repeats_left BETWEEN 0 AND 12),
  issued_on   TEXT NOT NULL
) STRICT;
