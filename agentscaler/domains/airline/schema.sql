-- An airline's customer desk: a timetable flown daily for thirty days, seats and prices by cabin, bookings, payments, vouchers.
-- Money is in euro cents. All airports share one time zone: dates are YYYY-MM-DD, times of day HH:MM, and now() is local time.
-- Words in RAISE(ABORT, …) are what the agent reads.

CREATE TABLE airports (
  airport           TEXT PRIMARY KEY CHECK (length(airport) = 3),
  name              TEXT NOT NULL,
  city              TEXT NOT NULL                     -- some cities have two airports
) STRICT, WITHOUT ROWID;

CREATE TABLE tiers (
  tier              TEXT PRIMARY KEY CHECK (tier IN ('feather', 'wing', 'summit')),
  free_bags         INTEGER NOT NULL,                 -- a passenger
  max_bags          INTEGER NOT NULL,                 -- a passenger
  change_fee_cents  INTEGER NOT NULL,                 -- a passenger and changed flight
  cancel_fee_cents  INTEGER NOT NULL,                 -- a passenger
  goodwill_cents    INTEGER NOT NULL                  -- worth of a goodwill voucher
) STRICT, WITHOUT ROWID;

CREATE TABLE fees (                                   -- what is the same for everybody
  fee               TEXT PRIMARY KEY,
  amount_cents      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE customers (
  customer_id       TEXT PRIMARY KEY,
  first_name        TEXT NOT NULL,
  last_name         TEXT NOT NULL,
  birth_date        TEXT NOT NULL,
  email             TEXT NOT NULL UNIQUE CHECK (email = lower(email)),
  phone             TEXT NOT NULL,
  tier              TEXT NOT NULL REFERENCES tiers(tier)
) STRICT, WITHOUT ROWID;
CREATE INDEX customers_by_name ON customers(last_name, birth_date);

-- Gift cards and vouchers have a balance: what was loaded, less what `payments` took from it.
CREATE TABLE payment_methods (
  payment_id        TEXT PRIMARY KEY,
  customer_id       TEXT NOT NULL REFERENCES customers(customer_id),
  kind              TEXT NOT NULL CHECK (kind IN ('card', 'gift_card', 'voucher')),
  label             TEXT NOT NULL,
  loaded_cents      INTEGER CHECK (loaded_cents >= 0),
  balance_cents     INTEGER,
  CHECK ((kind = 'card') = (balance_cents IS NULL) AND (kind = 'card') = (loaded_cents IS NULL))
) STRICT;
CREATE INDEX payment_methods_by_customer ON payment_methods(customer_id);

CREATE TABLE flights (                                -- the timetable; no flight runs past midnight
  flight            TEXT PRIMARY KEY,
  from_airport      TEXT NOT NULL REFERENCES airports(airport),
  to_airport        TEXT NOT NULL REFERENCES airports(airport),
  departs           TEXT NOT NULL,
  arrives           TEXT NOT NULL CHECK (arrives > departs)
) STRICT, WITHOUT ROWID;
CREATE INDEX flights_by_route ON flights(from_airport, to_airport);

CREATE TABLE dated_flights (
  flight            TEXT NOT NULL REFERENCES flights(flight),
  date              TEXT NOT NULL,
  status            TEXT NOT NULL DEFAULT 'on time' CHECK (status IN ('on time', 'delayed', 'cancelled', 'departed', 'landed')),
  delay_minutes     INTEGER NOT NULL DEFAULT 0 CHECK (delay_minutes >= 0),
  PRIMARY KEY (flight, date)
) STRICT, WITHOUT ROWID;

-- `seats` is how many this desk may sell, not the size of the aircraft. The price is the saver fare; flex costs a quarter more.
CREATE TABLE seats (
  flight            TEXT NOT NULL,
  date              TEXT NOT NULL,
  cabin             TEXT NOT NULL CHECK (cabin IN ('economy', 'comfort', 'business')),
  seats             INTEGER NOT NULL,
  seats_left        INTEGER NOT NULL,
  price_cents       INTEGER NOT NULL CHECK (price_cents > 0 AND price_cents % 400 = 0),
  PRIMARY KEY (flight, date, cabin),
  FOREIGN KEY (flight, date) REFERENCES dated_flights(flight, date)
) STRICT, WITHOUT ROWID;

-- Rows are numbered by SQLite, so that a tool finds the booking it has just made (view `newest_booking`).
CREATE TABLE bookings (
  booking           TEXT PRIMARY KEY,
  customer_id       TEXT NOT NULL REFERENCES customers(customer_id),
  status            TEXT NOT NULL CHECK (status IN ('confirmed', 'cancelled')),
  fare              TEXT NOT NULL CHECK (fare IN ('saver', 'flex')),
  cabin             TEXT NOT NULL CHECK (cabin IN ('economy', 'comfort', 'business')),
  num_passengers    INTEGER NOT NULL CHECK (num_passengers >= 1),
  bags              INTEGER NOT NULL CHECK (bags >= 0),
  fare_cents        INTEGER NOT NULL,                 -- all passengers and flights; 0 once cancelled, like bags_cents
  bags_cents        INTEGER NOT NULL,
  fees_cents        INTEGER NOT NULL,                 -- for changes and cancellation; never paid back
  payment_id        TEXT NOT NULL REFERENCES payment_methods(payment_id),
  booked_at         TEXT NOT NULL
) STRICT;
CREATE INDEX bookings_by_customer ON bookings(customer_id);

CREATE TABLE passengers (
  booking           TEXT NOT NULL REFERENCES bookings(booking),
  passenger_number  INTEGER NOT NULL,
  first_name        TEXT NOT NULL CHECK (length(trim(first_name)) BETWEEN 1 AND 40),
  last_name         TEXT NOT NULL CHECK (length(trim(last_name)) BETWEEN 1 AND 40),
  birth_date        TEXT NOT NULL,
  PRIMARY KEY (booking, passenger_number)
) STRICT, WITHOUT ROWID;

CREATE TABLE booked_flights (
  booking           TEXT NOT NULL REFERENCES bookings(booking),
  leg               INTEGER NOT NULL,                 -- 1 is flown first
  flight            TEXT NOT NULL,
  date              TEXT NOT NULL,
  fare_cents        INTEGER NOT NULL,                 -- a passenger
  PRIMARY KEY (booking, leg),
  FOREIGN KEY (flight, date) REFERENCES dated_flights(flight, date)
) STRICT, WITHOUT ROWID;
CREATE INDEX booked_flights_by_flight ON booked_flights(flight, date);

-- One row a booking, method and reason, summed up: the order and number of payments that lead to the same sum leave no trace.
-- Charges are positive, refunds negative.
CREATE TABLE payments (
  booking           TEXT NOT NULL REFERENCES bookings(booking),
  payment_id        TEXT NOT NULL REFERENCES payment_methods(payment_id),
  reason            TEXT NOT NULL CHECK (reason IN ('fare', 'bags', 'change fee', 'refund')),
  amount_cents      INTEGER NOT NULL,
  PRIMARY KEY (booking, payment_id, reason)
) STRICT, WITHOUT ROWID;
CREATE INDEX payments_by_method ON payments(payment_id);

CREATE TABLE goodwill (                               -- at most one voucher a booking
  booking           TEXT PRIMARY KEY REFERENCES bookings(booking),
  payment_id        TEXT NOT NULL REFERENCES payment_methods(payment_id)
) STRICT, WITHOUT ROWID;

-- Views that tools share.

CREATE VIEW departures AS
SELECT d.flight, d.date, f.from_airport, f.to_airport, a.city AS from_city, z.city AS to_city, f.departs, f.arrives,
       d.status, d.delay_minutes,
       d.date || 'T' || f.departs || ':00Z' AS leaves_at, d.date || 'T' || f.arrives || ':00Z' AS lands_at,
       d.status IN ('departed', 'landed') AS gone,
       d.status = 'cancelled' OR d.delay_minutes >= 120 AS disrupted
FROM dated_flights d
JOIN flights f ON f.flight = d.flight
JOIN airports a ON a.airport = f.from_airport
JOIN airports z ON z.airport = f.to_airport;

CREATE VIEW legs AS
SELECT b.booking, b.leg, b.fare_cents, d.*
FROM booked_flights b JOIN departures d ON d.flight = b.flight AND d.date = b.date;

CREATE VIEW stops AS                                  -- between a leg and the next one
SELECT one.booking, one.leg, (unixepoch(two.leaves_at) - unixepoch(one.lands_at)) / 60 AS minutes,
       iif(one.to_airport = two.from_airport, 45, 180) AS min_minutes
FROM legs one JOIN legs two ON two.booking = one.booking AND two.leg = one.leg + 1;

CREATE VIEW booking_terms AS                          -- what holds for a booking now
SELECT b.booking, b.customer_id, b.status, b.fare, b.cabin, b.num_passengers, b.bags, b.payment_id,
       t.free_bags * b.num_passengers AS free_bags, t.max_bags * b.num_passengers AS max_bags, t.change_fee_cents,
       EXISTS (SELECT 1 FROM legs l WHERE l.booking = b.booking AND l.gone) AS has_departed,
       iif(b.booked_at >= strftime('%Y-%m-%dT%H:%M:%SZ', now(), '-24 hours')
             OR EXISTS (SELECT 1 FROM legs l WHERE l.booking = b.booking AND l.disrupted),
           0, min(t.cancel_fee_cents * b.num_passengers, b.fare_cents + b.bags_cents)) AS cancel_fee_cents,
       b.fare_cents, b.bags_cents, b.fees_cents, t.goodwill_cents
FROM bookings b JOIN customers c ON c.customer_id = b.customer_id JOIN tiers t ON t.tier = c.tier;

CREATE VIEW newest_booking AS SELECT booking FROM bookings WHERE rowid = (SELECT max(rowid) FROM bookings);
CREATE VIEW newest_method AS SELECT payment_id FROM payment_methods WHERE rowid = (SELECT max(rowid) FROM payment_methods);

-- Rules that hold whatever tool writes.

CREATE TRIGGER seats_run_out BEFORE UPDATE OF seats_left ON seats WHEN new.seats_left < 0 BEGIN
  SELECT RAISE(ABORT, 'There are not enough seats left in this cabin on one of these flights. Look for other flights or another cabin.');
END;

CREATE TRIGGER only_flights_that_leave_are_booked BEFORE INSERT ON booked_flights
WHEN EXISTS (SELECT 1 FROM dated_flights d WHERE d.flight = new.flight AND d.date = new.date AND d.status NOT IN ('on time', 'delayed')) BEGIN
  SELECT RAISE(ABORT, 'One of these flights is cancelled or has departed already. Choose a flight that is still to leave.');
END;

CREATE TRIGGER only_flights_that_leave_are_changed_to BEFORE UPDATE OF flight, date ON booked_flights
WHEN EXISTS (SELECT 1 FROM dated_flights d WHERE d.flight = new.flight AND d.date = new.date AND d.status NOT IN ('on time', 'delayed')) BEGIN
  SELECT RAISE(ABORT, 'The new flight is cancelled or has departed already. Choose a flight that is still to leave.');
END;

CREATE TRIGGER departed_flights_stay BEFORE UPDATE OF flight, date ON booked_flights
WHEN EXISTS (SELECT 1 FROM dated_flights d WHERE d.flight = old.flight AND d.date = old.date AND d.status IN ('departed', 'landed')) BEGIN
  SELECT RAISE(ABORT, 'A flight that has departed cannot be changed any more.');
END;

-- The last step of booking and changing: by then all legs are in place.
CREATE TRIGGER legs_fit_together AFTER UPDATE OF fare_cents ON bookings
WHEN EXISTS (SELECT 1 FROM stops s WHERE s.booking = new.booking AND s.minutes < s.min_minutes) BEGIN
  SELECT RAISE(ABORT, 'These flights do not fit together: between two of them there must be 45 minutes, or 3 hours where the airport changes.');
END;

CREATE TRIGGER passengers_are_born BEFORE INSERT ON passengers
WHEN date(new.birth_date) IS NOT new.birth_date OR new.birth_date >= date(now()) BEGIN
  SELECT RAISE(ABORT, 'A birth date must be a day in the past, written YYYY-MM-DD.');
END;

CREATE TRIGGER passengers_stay_born BEFORE UPDATE OF birth_date ON passengers
WHEN date(new.birth_date) IS NOT new.birth_date OR new.birth_date >= date(now()) BEGIN
  SELECT RAISE(ABORT, 'A birth date must be a day in the past, written YYYY-MM-DD.');
END;

CREATE TRIGGER nobody_joins BEFORE INSERT ON passengers
WHEN (SELECT count(*) FROM passengers p WHERE p.booking = new.booking)
     >= (SELECT b.num_passengers FROM bookings b WHERE b.booking = new.booking) BEGIN
  SELECT RAISE(ABORT, 'The number of passengers of a booking cannot change.');
END;

CREATE TRIGGER own_methods_pay BEFORE INSERT ON payments
WHEN NOT EXISTS (SELECT 1 FROM bookings b JOIN payment_methods m ON m.customer_id = b.customer_id
                 WHERE b.booking = new.booking AND m.payment_id = new.payment_id) BEGIN
  SELECT RAISE(ABORT, 'The customer has no such payment method. find_customer shows the ones there are.');
END;

CREATE TRIGGER payments_move_balances AFTER INSERT ON payments BEGIN
  UPDATE payment_methods SET balance_cents = balance_cents - new.amount_cents
  WHERE payment_id = new.payment_id AND kind <> 'card';
END;

CREATE TRIGGER sums_move_balances AFTER UPDATE OF amount_cents ON payments BEGIN
  UPDATE payment_methods SET balance_cents = balance_cents - new.amount_cents + old.amount_cents
  WHERE payment_id = new.payment_id AND kind <> 'card';
END;

CREATE TRIGGER balances_run_out BEFORE UPDATE OF balance_cents ON payment_methods WHEN new.balance_cents < 0 BEGIN
  SELECT RAISE(ABORT, 'The balance of this gift card or voucher does not cover the amount. Use another payment method.');
END;
