#pragma once

#include "core/json_writer.h"
#include "pg/guard.h"

namespace apikey::flow {

/** One value of a metric, in Prometheus's sense. */
struct Sample {
    std::string name;
    core::JsonWriter labels;
    double value;
};

/**
 * What shared memory counts for the session's database, and what it says about itself, each label set from
 * the start, with zeros. Without shared memory only what describes the server; nothing of the database where
 * it has no place in it (apikey.max_databases). Takes the locks of the databases and of the workers, shared,
 * one after the other.
 */
std::vector<Sample> samples_in_memory();

}  // namespace apikey::flow
