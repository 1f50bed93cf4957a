#include "core/version.h"
#include "pg/library_version.h"

namespace apikey::pg {

std::string_view library_version() {
    return APIKEY_VERSION;
}

Installed raw_installed() {
    Relation relation = table_open(ExtensionRelationId, AccessShareLock);
    ScanKeyData name;
    ScanKeyInit(&name, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ, CStringGetDatum("apikey"));
    SysScanDesc scan = systable_beginscan(relation, ExtensionNameIndexId, true, nullptr, 1, &name);
    Installed installed = Installed::absent;
    if (HeapTuple tuple = systable_getnext(scan); HeapTupleIsValid(tuple)) {
        bool is_null = false;
        const Datum version =
            heap_getattr(tuple, Anum_pg_extension_extversion, RelationGetDescr(relation), &is_null);
        const std::strong_ordering order =
            core::compare_versions(is_null ? "" : TextDatumGetCString(version), library_version());
        installed = std::is_lt(order)   ? Installed::older
                    : std::is_gt(order) ? Installed::newer
                                        : Installed::same;
    }
    systable_endscan(scan);
    table_close(relation, AccessShareLock);
    return installed;
}

const char* remedy(Installed installed) {
    switch (installed) {
        case Installed::absent:
            return "Run CREATE EXTENSION apikey in this database.";
        case Installed::older:
            return "Run ALTER EXTENSION apikey UPDATE in this database.";
        case Installed::newer:
            return "Restart the server, so that it loads the library that belongs to the installed "
                   "extension.";
        case Installed::same:
            break;
    }
    return "Undo what was changed in the extension's objects; the version is that of the library.";
}

}  // namespace apikey::pg
