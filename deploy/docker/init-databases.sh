#!/bin/sh
# A role and a database each for MLflow, the audit trail and the orchestrator; neither owns anything else. Who writes the trail and who
# reads it own nothing: the trail's schema says what they may.
set -eu
psql -v ON_ERROR_STOP=1 -v mlflow="$MLFLOW_DB_PASSWORD" -v ultrathink="$ULTRATHINK_DB_PASSWORD" \
    -v orchestrator="$ORCHESTRATOR_DB_PASSWORD" \
    -v forensics="$FORENSICS_DB_PASSWORD" -v reader="$READER_DB_PASSWORD" -U postgres <<'SQL'
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow';
CREATE DATABASE mlflow OWNER mlflow;
CREATE ROLE ultrathink LOGIN PASSWORD :'ultrathink';
CREATE DATABASE ultrathink OWNER ultrathink;
CREATE ROLE orchestrator LOGIN PASSWORD :'orchestrator';
CREATE DATABASE orchestrator OWNER orchestrator;
CREATE ROLE forensics LOGIN PASSWORD :'forensics';
CREATE ROLE reader LOGIN PASSWORD :'reader';
\c ultrathink
CREATE EXTENSION IF NOT EXISTS timescaledb;
SQL
