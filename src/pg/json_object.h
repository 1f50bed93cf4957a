#pragma once

#include <cstring>

#include "pg/guard.h"

namespace apikey::pg {

/**
 * A jsonb object in the making, for use inside pg::call(): trivial, and without a wall of its own. What is
 * NULL is left out, as jsonb_strip_nulls(jsonb_build_object(…)) would do, and what is not has the same form.
 */
class RawJsonObject {
  public:
    RawJsonObject() { pushJsonbValue(&state_, WJB_BEGIN_OBJECT, nullptr); }

    /** A text, or what is laid out as one. */
    void text(const char* name, Datum value, bool null) {
        if (!null) {
            key(name);
            string(WJB_VALUE, value);
        }
    }

    void timestamptz(const char* name, Datum value, bool null) {
        if (!null) {
            key(name);
            c_string(WJB_VALUE, JsonEncodeDateTime(nullptr, value, TIMESTAMPTZOID, nullptr));
        }
    }

    /** An array of one dimension, of texts. */
    void text_array(const char* name, Datum value, bool null) {
        if (!null) {
            array(name, value, TEXTOID,
                  [](RawJsonObject& object, Datum element) { object.string(WJB_ELEM, element); });
        }
    }

    /** An array of one dimension, of networks. */
    void cidr_array(const char* name, Datum value, bool null) {
        if (!null) {
            array(name, value, CIDROID, [](RawJsonObject& object, Datum element) {
                object.c_string(WJB_ELEM, DatumGetCString(OidFunctionCall1(F_CIDR_OUT, element)));
            });
        }
    }

    Datum finish() {
        return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state_, WJB_END_OBJECT, nullptr)));
    }

  private:
    void push(JsonbIteratorToken token, const char* data, std::size_t size) {
        JsonbValue value;
        value.type = jbvString;
        value.val.string.val = const_cast<char*>(data);
        value.val.string.len = static_cast<int>(size);
        pushJsonbValue(&state_, token, &value);
    }
    void key(const char* name) { push(WJB_KEY, name, strlen(name)); }
    void c_string(JsonbIteratorToken token, const char* text) { push(token, text, strlen(text)); }
    void string(JsonbIteratorToken token, Datum text) {
        const auto* value = PG_DETOAST_DATUM_PACKED(text);
        push(token, VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value));
    }
    void array(const char* name, Datum value, Oid type, void (*add)(RawJsonObject&, Datum)) {
        Datum* elements = nullptr;
        int count = 0;
        deconstruct_array(DatumGetArrayTypeP(value), type, -1, false, TYPALIGN_INT, &elements, nullptr,
                          &count);
        key(name);
        pushJsonbValue(&state_, WJB_BEGIN_ARRAY, nullptr);
        for (int i = 0; i < count; i++) {
            add(*this, elements[i]);
        }
        pushJsonbValue(&state_, WJB_END_ARRAY, nullptr);
    }

    JsonbParseState* state_ = nullptr;
};

}  // namespace apikey::pg
