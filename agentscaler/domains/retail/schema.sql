-- An online shop: what it sells, who buys it, and what became of each order.
-- Money is in cents. Days are ISO dates, times ISO times in UTC. Words in RAISE(ABORT, …) are what the agent reads.

-- What lies in people's carts. A row whose pieces have been ordered stays with quantity 0: what happened is a change, not nothing.
CREATE TABLE cart_lines (
  customer_id   TEXT NOT NULL REFERENCES customers(customer_id),
  sku           TEXT NOT NULL REFERENCES variants(sku),
  quantity      INTEGER NOT NULL CHECK (quantity BETWEEN 0 AND 5),
  PRIMARY KEY (customer_id, sku)
) STRICT, WITHOUT ROWID;

CREATE TABLE customers (
  customer_id   TEXT PRIMARY KEY,
  first_name    TEXT NOT NULL,
  last_name     TEXT NOT NULL,
  email         TEXT NOT NULL UNIQUE CHECK (email = lower(email)),
  street        TEXT NOT NULL,
  city          TEXT NOT NULL,
  postcode      TEXT NOT NULL,
  tier          TEXT NOT NULL CHECK (tier IN ('member', 'plus', 'premier')),
  newsletter    TEXT NOT NULL CHECK (newsletter IN ('weekly', 'monthly', 'never')),
  payment_id    TEXT REFERENCES payment_methods(payment_id),  -- the preferred one; every account has one, once it is seeded
  joined_on     TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX customers_by_name ON customers(last_name COLLATE NOCASE, postcode);

CREATE TABLE payment_methods (
  payment_id    TEXT PRIMARY KEY,
  customer_id   TEXT NOT NULL REFERENCES customers(customer_id),
  kind          TEXT NOT NULL CHECK (kind IN ('card', 'gift_card', 'store_credit')),
  ends_in       TEXT,                           -- last four digits of cards and gift cards
  expires_on    TEXT,                           -- cards only
  loaded_cents  INTEGER,                        -- gift cards and store credit: all that was ever put on
  balance_cents INTEGER,                        -- what is left of it
  CHECK ((kind = 'card') = (balance_cents IS NULL) AND (kind = 'card') = (expires_on IS NOT NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX payment_methods_by_customer ON payment_methods(customer_id);

CREATE TRIGGER balances_stay_covered BEFORE UPDATE OF balance_cents ON payment_methods WHEN new.balance_cents < 0 BEGIN
  SELECT RAISE(ABORT, 'The balance of that gift card or store credit does not cover the amount. Another payment method is needed.');
END;

CREATE TABLE products (
  product_id    TEXT PRIMARY KEY,
  name          TEXT NOT NULL UNIQUE,
  category      TEXT NOT NULL,
  return_policy TEXT NOT NULL CHECK (return_policy IN ('standard', 'hygiene', 'final_sale')),
  description   TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE variants (
  sku            TEXT PRIMARY KEY,
  product_id     TEXT NOT NULL REFERENCES products(product_id),
  colour         TEXT NOT NULL,
  size           TEXT NOT NULL,
  price_cents    INTEGER NOT NULL CHECK (price_cents > 0),
  received_units INTEGER NOT NULL,              -- all that ever came in from makers
  stock          INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX variants_by_product ON variants(product_id);

CREATE TRIGGER stock_stays_covered BEFORE UPDATE OF stock ON variants WHEN new.stock < 0 BEGIN
  SELECT RAISE(ABORT, 'There are not enough pieces in stock.');
END;

CREATE TABLE price_history (
  sku           TEXT NOT NULL REFERENCES variants(sku),
  valid_from    TEXT NOT NULL,
  price_cents   INTEGER NOT NULL,
  PRIMARY KEY (sku, valid_from)
) STRICT, WITHOUT ROWID;

CREATE TABLE promo_codes (
  code          TEXT PRIMARY KEY,
  percent       INTEGER NOT NULL CHECK (percent BETWEEN 1 AND 50),
  category      TEXT,                           -- only items of this category; NULL: all items
  from_cents    INTEGER NOT NULL,               -- the items must cost at least this much
  plus_only     INTEGER NOT NULL CHECK (plus_only IN (0, 1)),  -- for the tiers plus and premier
  valid_until   TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE shipping_methods (
  shipping      TEXT PRIMARY KEY,
  price_cents   INTEGER NOT NULL,
  free_from_cents INTEGER,                      -- free when the items, discount taken off, cost this much
  premier_free  INTEGER NOT NULL CHECK (premier_free IN (0, 1)),
  days          INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE orders (
  order_id      TEXT PRIMARY KEY,               -- made by new_id('orders') for new ones
  customer_id   TEXT NOT NULL REFERENCES customers(customer_id),
  status        TEXT NOT NULL CHECK (status IN ('placed', 'packed', 'shipped', 'delivered', 'cancelled')),
  placed_at     TEXT NOT NULL,
  packed_at     TEXT,
  shipped_at    TEXT,
  delivered_at  TEXT,
  tracking_number TEXT UNIQUE,                  -- from here on: once it is shipped
  carrier       TEXT,
  expected_on   TEXT,
  cancel_reason TEXT CHECK (cancel_reason IN ('ordered_twice', 'wrong_item', 'too_late')),
  street        TEXT NOT NULL,
  city          TEXT NOT NULL,
  postcode      TEXT NOT NULL,
  shipping      TEXT NOT NULL REFERENCES shipping_methods(shipping),
  shipping_cents INTEGER NOT NULL CHECK (shipping_cents >= 0),
  promo_code    TEXT REFERENCES promo_codes(code),
  total_cents   INTEGER NOT NULL CHECK (total_cents >= 0),
  paid_with     TEXT NOT NULL REFERENCES payment_methods(payment_id)
) STRICT;
CREATE INDEX orders_by_customer ON orders(customer_id, placed_at);

-- Prices are those of the day `priced_on`: the day of the order, or of the last swap.
CREATE TABLE order_lines (
  order_id      TEXT NOT NULL REFERENCES orders(order_id),
  line          INTEGER NOT NULL,
  sku           TEXT NOT NULL REFERENCES variants(sku),
  quantity      INTEGER NOT NULL CHECK (quantity BETWEEN 1 AND 5),
  unit_cents    INTEGER NOT NULL,
  discount_cents INTEGER NOT NULL CHECK (discount_cents >= 0),
  priced_on     TEXT NOT NULL,
  PRIMARY KEY (order_id, line)
) STRICT, WITHOUT ROWID;

-- One row a purpose, with its net amount: taken from the customer is positive, given back negative. So the end does not depend on the
-- way to it. Purposes: 'order', 'return 2', 'exchange 2', 'price adjustment 2' (of line 2).
CREATE TABLE payments (
  order_id      TEXT NOT NULL REFERENCES orders(order_id),
  purpose       TEXT NOT NULL,
  payment_id    TEXT NOT NULL REFERENCES payment_methods(payment_id),
  amount_cents  INTEGER NOT NULL,
  PRIMARY KEY (order_id, purpose)
) STRICT, WITHOUT ROWID;

-- What people asked us to pass on to the shop's team. The words are the agent's own, and exempt.
CREATE TABLE feedback (
  feedback_id   TEXT PRIMARY KEY,               -- made by new_id('feedback')
  about         TEXT NOT NULL CHECK (about IN ('products', 'website', 'delivery', 'service')),
  words         TEXT NOT NULL,
  noted_on      TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- A line goes back once, as a return or as an exchange. Refunds of returns are paid when the parcel has arrived ('completed');
-- the replacement of an exchange leaves at once, and the difference is settled at once.
CREATE TABLE returns (
  order_id      TEXT NOT NULL,
  line          INTEGER NOT NULL,
  kind          TEXT NOT NULL CHECK (kind IN ('return', 'exchange')),
  quantity      INTEGER NOT NULL,
  reason        TEXT NOT NULL CHECK (reason IN ('unwanted', 'damaged', 'wrong_item_sent')),
  refund_cents  INTEGER,                        -- returns
  refund_to     TEXT REFERENCES payment_methods(payment_id),
  new_sku       TEXT REFERENCES variants(sku),  -- exchanges
  difference_cents INTEGER,
  status        TEXT NOT NULL CHECK (status IN ('requested', 'completed')),
  requested_on  TEXT NOT NULL,
  PRIMARY KEY (order_id, line),
  FOREIGN KEY (order_id, line) REFERENCES order_lines(order_id, line),
  CHECK ((kind = 'return') = (refund_cents IS NOT NULL AND refund_to IS NOT NULL)),
  CHECK ((kind = 'exchange') = (new_sku IS NOT NULL AND difference_cents IS NOT NULL))
) STRICT, WITHOUT ROWID;

-- What one line has cost so far: its price, less its discount, less what a price adjustment gave back.
CREATE VIEW line_costs AS
SELECT l.order_id, l.line, l.quantity * l.unit_cents - l.discount_cents + coalesce(p.amount_cents, 0) AS paid_cents
FROM order_lines l LEFT JOIN payments p ON p.order_id = l.order_id AND p.purpose = 'price adjustment ' || l.line;
