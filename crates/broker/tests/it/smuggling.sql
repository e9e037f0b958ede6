-- Attempts to write through a login that may only read three columns of some rows. One statement text a line.
INSERT INTO orders VALUES (5001, 1, 1, 'x')
INSERT INTO orders (id) VALUES (5002)
INSERT INTO orders SELECT 5003, 1, 1, ''
UPDATE orders SET total = 0
UPDATE orders SET total = total WHERE id = 1
UPDATE orders SET note = 'x' WHERE id = 1 RETURNING id
DELETE FROM orders
DELETE FROM orders WHERE id = 1
DELETE FROM ONLY orders USING customers
TRUNCATE orders
TRUNCATE orders, customers CASCADE
/* only reading */ DELETE FROM orders
-- x
WITH gone AS (DELETE FROM orders RETURNING *) SELECT count(*) FROM gone
WITH more AS (INSERT INTO orders VALUES (5004, 1, 1, '') RETURNING id) SELECT id FROM more
WITH more AS (UPDATE orders SET total = 1 RETURNING id) SELECT id FROM more
SELECT 1; DELETE FROM orders
SELECT 1; UPDATE customers SET name = 'x'; SELECT 2
BEGIN; DELETE FROM orders; COMMIT
BEGIN READ ONLY; SET TRANSACTION READ WRITE; DELETE FROM orders; COMMIT
SET default_transaction_read_only = off; DELETE FROM orders
SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE; INSERT INTO orders VALUES (5005, 1, 1, '')
SELECT set_config('role', 'bailiwick', false); DELETE FROM orders
SET ROLE bailiwick; DELETE FROM orders
SET SESSION AUTHORIZATION bailiwick; DELETE FROM orders
RESET ROLE; DELETE FROM orders
SET row_security = off; SELECT count(*) FROM orders; DELETE FROM orders
SET search_path = public; DELETE FROM orders
SET session_replication_role = replica; DELETE FROM orders
PREPARE p AS DELETE FROM orders; EXECUTE p
EXPLAIN ANALYZE DELETE FROM orders
EXPLAIN (ANALYZE, BUFFERS) UPDATE orders SET total = 1
DO $$ BEGIN DELETE FROM orders; END $$
DO $$ BEGIN EXECUTE 'DELETE' || ' FROM orders'; END $$
DO $$ BEGIN EXECUTE chr(68) || 'ELETE FROM orders'; END $$
SELECT query_to_xml('DELETE FROM orders RETURNING 1', true, true, '')
SELECT database_to_xml(true, true, '')
COPY orders FROM PROGRAM 'echo 1'
COPY orders FROM '/etc/passwd'
COPY (DELETE FROM orders RETURNING id) TO '/tmp/out'
COPY orders (id) TO PROGRAM 'cat'
MERGE INTO orders USING customers ON true WHEN MATCHED THEN DELETE
SELECT id FROM orders FOR UPDATE
LOCK TABLE orders IN ACCESS EXCLUSIVE MODE
CREATE TABLE mine AS SELECT id FROM orders
SELECT id INTO mine FROM orders
CREATE VIEW mine AS SELECT id FROM orders
CREATE MATERIALIZED VIEW mine AS SELECT id FROM orders
CREATE FUNCTION f() RETURNS void LANGUAGE sql AS 'DELETE FROM orders'
CREATE RULE r AS ON SELECT TO orders DO INSTEAD DELETE FROM orders
CREATE TRIGGER t AFTER INSERT ON orders EXECUTE FUNCTION suppress_redundant_updates_trigger()
CREATE POLICY all_of_it ON orders USING (true)
ALTER TABLE orders DISABLE ROW LEVEL SECURITY
ALTER TABLE orders OWNER TO CURRENT_USER
ALTER TABLE orders ADD COLUMN x int
DROP TABLE orders
DROP SCHEMA public CASCADE
CREATE SCHEMA mine
CREATE EXTENSION dblink
CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw
CREATE PUBLICATION p FOR ALL TABLES
CREATE ROLE other SUPERUSER LOGIN
ALTER ROLE bailiwick PASSWORD 'x'
ALTER ROLE CURRENT_USER SUPERUSER
ALTER SYSTEM SET fsync = off
ALTER DATABASE postgres SET search_path = ''
GRANT ALL ON orders TO PUBLIC
GRANT bailiwick TO CURRENT_USER
REASSIGN OWNED BY bailiwick TO CURRENT_USER
COMMENT ON TABLE orders IS 'mine'
SECURITY LABEL ON TABLE orders IS 'x'
VACUUM FULL orders
CLUSTER orders
REINDEX TABLE orders
REFRESH MATERIALIZED VIEW orders
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'bailiwick'
SELECT pg_reload_conf()
SELECT pg_switch_wal()
SELECT lo_import('/etc/passwd')
SELECT pg_file_write('/tmp/x', 'x', false)
SELECT nextval('orders_id_seq')
NOTIFY orders, 'DELETE FROM orders'
INSERT INTO bailiwick.scope VALUES (session_user, 'customer', '2')
DELETE FROM bailiwick.scope
