-- Roles for a database that more than one person can reach. Run it as the owner of the tables, after each migration:
--   psql "$OWNER_URL" --file deploy/postgres/roles.sql
-- Then give each role a password (ALTER ROLE ... PASSWORD), and put `darkroom_service` into DATABASE_URL of the API, the
-- workers and the reconciler, and `darkroom_autoscaler` into what scales the workers. `darkroom migrate` keeps the owner.
DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['darkroom_service', 'darkroom_autoscaler'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            EXECUTE format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS', name);
        END IF;
        EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA public FROM %I', name);
        EXECUTE format('GRANT USAGE ON SCHEMA public TO %I', name);
    END LOOP;
END
$$;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;

GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO darkroom_service;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO darkroom_service;
-- The trigger of the audit trail binds this role, which can neither disable it nor empty the table.
REVOKE UPDATE, DELETE, TRUNCATE ON audit_events FROM darkroom_service;
REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON alembic_version FROM darkroom_service;

GRANT SELECT ON jobs, workers TO darkroom_autoscaler;
