#include "pg/json_changes.h"

namespace apikey::pg {
namespace {

/** For use inside pg::call(). */
void raw_push_name(JsonbParseState** state, const char* name, std::size_t length) {
    JsonbValue value;
    value.type = jbvString;
    value.val.string.val = const_cast<char*>(name);
    value.val.string.len = static_cast<int>(length);
    pushJsonbValue(state, WJB_KEY, &value);
}

bool raw_equal(JsonbValue* one, JsonbValue* other) {
    return compareJsonbContainers(&JsonbValueToJsonb(one)->root, &JsonbValueToJsonb(other)->root) == 0;
}

}  // namespace

std::optional<Datum> changed_members(Datum before, Datum after) {
    bool changed = false;
    const Datum changes = call([&] {
        Jsonb* old_object = DatumGetJsonbP(before);
        Jsonb* new_object = DatumGetJsonbP(after);
        if (!JB_ROOT_IS_OBJECT(old_object) || !JB_ROOT_IS_OBJECT(new_object)) {
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("both must be JSON objects")));
        }
        JsonbParseState* state = nullptr;
        pushJsonbValue(&state, WJB_BEGIN_OBJECT, nullptr);
        JsonbIterator* iterator = JsonbIteratorInit(&new_object->root);
        JsonbValue name;
        JsonbValue new_value;
        (void)JsonbIteratorNext(&iterator, &name, false);  // the object begins
        while (JsonbIteratorNext(&iterator, &name, true) == WJB_KEY) {
            (void)JsonbIteratorNext(&iterator, &new_value, true);
            JsonbValue* old_value = getKeyJsonValueFromContainer(&old_object->root, name.val.string.val,
                                                                 name.val.string.len, nullptr);
            if (old_value == nullptr || raw_equal(old_value, &new_value)) {
                continue;
            }
            changed = true;
            pushJsonbValue(&state, WJB_KEY, &name);
            pushJsonbValue(&state, WJB_BEGIN_OBJECT, nullptr);
            raw_push_name(&state, "old", 3);
            pushJsonbValue(&state, WJB_VALUE, old_value);
            raw_push_name(&state, "new", 3);
            pushJsonbValue(&state, WJB_VALUE, &new_value);
            pushJsonbValue(&state, WJB_END_OBJECT, nullptr);
        }
        return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, nullptr)));
    });
    return changed ? std::optional<Datum>(changes) : std::nullopt;
}

}  // namespace apikey::pg
