#include "core/strict_json.h"

#include <gtest/gtest.h>

#include <limits>

namespace apikey::core {
namespace {

constexpr std::size_t no_limit = std::numeric_limits<std::size_t>::max();

std::optional<JsonObject> parse(std::string_view text) {
    std::string why;
    auto object = parse_json_object(text, no_limit, why);
    EXPECT_EQ(object.has_value(), why.empty()) << text;
    return object;
}

std::string why_not(std::string_view text) {
    std::string why;
    EXPECT_FALSE(parse_json_object(text, no_limit, why)) << text;
    return why;
}

TEST(StrictJson, ReadsEveryType) {
    const auto object = parse(
        R"( {"s":"a\u00e9\n","n":12,"z":0,"neg":-1,"f":1.5,"e":1e3,"t":true,"x":null,"a":[1,"b"],"o":{"p":[]}} )");
    ASSERT_TRUE(object);
    EXPECT_EQ(*find_member(*object, "s")->string(), "a\xC3\xA9\n");
    EXPECT_EQ(*find_member(*object, "n")->unsigned_integer(), 12u);
    EXPECT_EQ(*find_member(*object, "z")->unsigned_integer(), 0u);
    EXPECT_EQ(find_member(*object, "s")->unsigned_integer(), nullptr);
    EXPECT_EQ(find_member(*object, "n")->string(), nullptr);
    for (const std::string_view name : {"neg", "f", "e"}) {
        EXPECT_TRUE(std::holds_alternative<OtherNumber>(find_member(*object, name)->value)) << name;
    }
    EXPECT_TRUE(std::get<bool>(find_member(*object, "t")->value));
    EXPECT_TRUE(std::holds_alternative<std::nullptr_t>(find_member(*object, "x")->value));
    const auto& array = std::get<JsonArray>(find_member(*object, "a")->value);
    ASSERT_EQ(array.size(), 2u);
    EXPECT_EQ(*array[1].string(), "b");
    const auto& inner = std::get<JsonObject>(find_member(*object, "o")->value);
    EXPECT_TRUE(std::get<JsonArray>(find_member(inner, "p")->value).empty());
    EXPECT_EQ(find_member(*object, "absent"), nullptr);
}

TEST(StrictJson, OnlyPlainDigitsAreIntegers) {
    const auto is_integer = [](const std::string& number) {
        const auto object = parse("{\"n\":" + number + "}");
        return object && object->front().value.unsigned_integer() != nullptr;
    };
    EXPECT_TRUE(is_integer("18446744073709551615"));
    for (const std::string number : {"18446744073709551616", "-0", "-1", "1.0", "1e0", "1E2", "0.0"}) {
        EXPECT_FALSE(is_integer(number)) << number;
    }
    for (const std::string_view text :
         {R"({"n":01})", R"({"n":+1})", R"({"n":0x1})", R"({"n":1e999})", R"({"n":NaN})"}) {
        EXPECT_EQ(why_not(text), "not valid JSON");
    }
}

TEST(StrictJson, RefusesDuplicatesAfterUnescaping) {
    for (const std::string_view text :
         {R"({"a":1,"a":1})", R"({"a":1,"\u0061":2})", R"({"x":{"a":1,"b":2,"a":3}})",
          R"({"x":[{"a":1,"a":2}]})", R"({"":1,"":2})"}) {
        EXPECT_EQ(why_not(text), "a JSON member appears twice");
    }
    EXPECT_TRUE(parse(R"({"a":{"a":1},"b":[{"a":1},{"a":1}]})"));
}

TEST(StrictJson, RefusesWhatIsNotOneObject) {
    for (const std::string_view text : {"", " ", "[]", "1", "\"a\"", "null", "true"}) {
        EXPECT_FALSE(why_not(text).empty());
    }
    for (const std::string_view text : {"{}{}",
                                        "{} x",
                                        "{},",
                                        "{",
                                        "}",
                                        "{\"a\"}",
                                        "{\"a\":}",
                                        "{\"a\":1,}",
                                        "{a:1}",
                                        "{'a':1}",
                                        "{\"a\":1 \"b\":2}",
                                        "{}/**/",
                                        "{/**/}",
                                        "{} // x",
                                        "\xEF\xBB\xBF{}",
                                        "{}\xEF\xBB\xBF",
                                        "\xFF\xFE{",
                                        "{\"a\":[}",
                                        "{\"a\":[1}",
                                        "{\"a\":tru}"}) {
        EXPECT_EQ(why_not(text), "not valid JSON") << text;
    }
}

TEST(StrictJson, RefusesNul) {
    EXPECT_EQ(why_not(std::string_view("{}\0", 3)), "not valid JSON");
    EXPECT_EQ(why_not(std::string_view("{}\0{\"a\":1}", 10)), "not valid JSON");
    EXPECT_EQ(why_not(std::string_view("{\"a\":\"\0\"}", 9)), "not valid JSON");
    EXPECT_EQ(why_not(R"({"a":"x\u0000"})"), "NUL character in a JSON string");
    EXPECT_EQ(why_not(R"({"a\u0000":1})"), "NUL character in a JSON string");
}

TEST(StrictJson, RefusesMangledUtf8AndLoneSurrogates) {
    for (const std::string_view bad :
         {"\x80", "\xC3", "\xC0\x80", "\xC1\xBF", "\xE0\x80\x80", "\xED\xA0\x80", "\xF0\x80\x80\x80",
          "\xF4\x90\x80\x80", "\xF8\x88\x80\x80\x80", "\xFF", "\xE2\x82", "\\ud800", "\\udc00",
          "\\ud800\\ud800", "\\u12", "\\x41", "\x01", "\n", "\t"}) {
        EXPECT_EQ(why_not("{\"a\":\"" + std::string(bad) + "\"}"), "not valid JSON") << bad;
        EXPECT_EQ(why_not("{\"" + std::string(bad) + "\":1}"), "not valid JSON") << bad;
    }
    const auto pair = parse(R"({"a":"\ud83d\ude00"})");
    ASSERT_TRUE(pair);
    EXPECT_EQ(*pair->front().value.string(), "\xF0\x9F\x98\x80");
}

std::string nested(std::size_t depth, std::string_view open, std::string_view close) {
    std::string text = "{\"a\":";
    for (std::size_t i = 1; i < depth; ++i) {
        text += open;
    }
    text += "1";
    for (std::size_t i = 1; i < depth; ++i) {
        text += close;
    }
    return text + "}";
}

TEST(StrictJson, DepthLimit) {
    EXPECT_TRUE(parse(nested(8, "[", "]")));
    EXPECT_EQ(why_not(nested(9, "[", "]")), "JSON is nested too deeply");
    EXPECT_TRUE(parse(nested(8, "{\"a\":", "}")));
    EXPECT_EQ(why_not(nested(9, "{\"a\":", "}")), "JSON is nested too deeply");
    EXPECT_EQ(why_not(nested(100'000, "[", "]")), "JSON is nested too deeply");
    EXPECT_EQ(why_not(nested(100'000, "{\"a\":", "}")), "JSON is nested too deeply");
    EXPECT_EQ(why_not(std::string(1 << 20, '[')), "JSON is nested too deeply");
}

TEST(StrictJson, SizeAndMemberLimits) {
    std::string why;
    EXPECT_TRUE(parse_json_object("{\"a\":1}", 7, why));
    EXPECT_FALSE(parse_json_object("{\"a\":1}", 6, why));
    EXPECT_EQ(why, "JSON is too long");

    const auto with_members = [](std::size_t count) {
        std::string text = "{";
        for (std::size_t i = 0; i < count; ++i) {
            text += (i == 0 ? "\"" : ",\"") + std::to_string(i) + "\":1";
        }
        return text + "}";
    };
    EXPECT_TRUE(parse(with_members(max_json_members)));
    EXPECT_EQ(why_not(with_members(max_json_members + 1)), "a JSON object has too many members");
}

TEST(StrictJson, ReasonsNeverQuoteTheText) {
    for (const std::string_view text :
         {R"({"SECRET":"SECRET)", R"({"SECRET":1,"SECRET":2})", R"(SECRET)", R"({"a":"SECRET\u0000"})"}) {
        EXPECT_EQ(why_not(text).find("SECRET"), std::string::npos);
    }
}

TEST(StrictJson, WritesStringsThatReadBack) {
    const std::string text = "\"\\/\b\f\n\r\t\x01\x1f\x7f \xC3\xA9 \xF0\x9F\x98\x80";
    std::string json = "{\"a\":";
    append_json_string(json, text);
    json += "}";
    const auto object = parse(json);
    ASSERT_TRUE(object) << json;
    EXPECT_EQ(*object->front().value.string(), text);
}

}  // namespace
}  // namespace apikey::core
