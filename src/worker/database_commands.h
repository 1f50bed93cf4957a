#pragma once

/**
 * DROP DATABASE, ALTER DATABASE … RENAME or SET TABLESPACE, and CREATE DATABASE … TEMPLATE fail while anybody
 * is connected to the database. Our workers are made to leave it before such a command, and come back when
 * its transaction has ended.
 */
namespace apikey::worker {

/** Chains into ProcessUtility_hook. From _PG_init, while preloading. */
void watch_database_commands();

}  // namespace apikey::worker
