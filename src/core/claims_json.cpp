#include "core/claims_json.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "core/base64url.h"
#include "core/label.h"
#include "core/strict_json.h"

namespace apikey::core {
namespace {

struct TextClaim {
    std::string_view name;
    std::string Claims::*text;
    bool required;
};

constexpr std::array<TextClaim, 7> text_claims{{
    {"iss", &Claims::issuer, true},        // RFC 7519 section 4.1.1
    {"sub", &Claims::subject, true},       // 4.1.2
    {"role", &Claims::role, true},         // private
    {"aud", &Claims::audience, false},     // 4.1.3, never an array here
    {"env", &Claims::environment, false},  // private
    {"scope", &Claims::scope, false},      // RFC 8693 section 4.2
    {"nonce", &Claims::nonce, true},       // what only the issuer's master key can make
}};

struct TimeClaim {
    std::string_view name;
    std::int64_t Claims::*time;
};

constexpr std::array<TimeClaim, 2> time_claims{{
    {"iat", &Claims::issued_at},   // RFC 7519 section 4.1.6
    {"exp", &Claims::expires_at},  // 4.1.4
}};

/** `<key id>.<generation>`, written in one way only: the text is an identity that other programs compare. */
bool parse_jti(std::string_view jti, Claims& claims) {
    const std::size_t dot = jti.find('.');
    const std::optional<Uuid> key_id = uuid_from_string(jti.substr(0, dot));
    if (!key_id || dot == std::string_view::npos) {
        return false;
    }
    const std::string_view digits = jti.substr(dot + 1);
    std::int32_t generation = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), generation);
    if (error != std::errc() || end != digits.data() + digits.size() || digits.front() == '0' ||
        generation < 1) {
        return false;
    }
    claims.key_id = *key_id;
    claims.generation = generation;
    return true;
}

bool is_valid_time(std::uint64_t time) {
    return time <= static_cast<std::uint64_t>(max_numeric_date);
}

bool is_valid_nonce(std::string_view text) {
    const std::optional<Bytes> nonce = base64url_decode(text);
    return nonce && nonce->size() == nonce_size;
}

/** One claim into `claims`; false when its name is unknown or its value wrong. */
bool read_claim(const JsonMember& member, Claims& claims, std::string& why) {
    const std::string* text = member.value.string();
    const auto text_claim = std::find_if(text_claims.begin(), text_claims.end(),
                                         [&](const TextClaim& claim) { return claim.name == member.name; });
    if (text_claim != text_claims.end()) {
        if (text == nullptr || text->empty()) {
            why = "a claim has the wrong type or is empty";
            return false;
        }
        if (has_control_character(*text)) {
            why = "control character in a claim";
            return false;
        }
        claims.*text_claim->text = *text;
        return true;
    }
    const auto time_claim = std::find_if(time_claims.begin(), time_claims.end(),
                                         [&](const TimeClaim& claim) { return claim.name == member.name; });
    if (time_claim != time_claims.end()) {
        const std::uint64_t* time = member.value.unsigned_integer();
        if (time == nullptr || !is_valid_time(*time)) {
            why = "a time is not a whole number of seconds from 1970 to 9999";
            return false;
        }
        claims.*time_claim->time = static_cast<std::int64_t>(*time);
        return true;
    }
    if (member.name == "jti") {
        if (text == nullptr || !parse_jti(*text, claims)) {
            why = "jti is not a key id and a generation";
            return false;
        }
        return true;
    }
    why = "unknown claim";
    return false;
}

void append_text(std::string& json, std::string_view name, std::string_view text) {
    json += json.empty() ? '{' : ',';
    append_json_string(json, name);
    json += ':';
    append_json_string(json, text);
}

void append_time(std::string& json, std::string_view name, std::int64_t time) {
    json += ',';
    append_json_string(json, name);
    json += ':';
    json += std::to_string(time);
}

void append_optional_text(std::string& json, std::string_view name, std::string_view text) {
    if (!text.empty()) {
        append_text(json, name, text);
    }
}

}  // namespace

std::optional<Claims> parse_claims(std::string_view json, std::string& why) {
    const std::optional<JsonObject> object = parse_json_object(json, max_jws_size, why);
    if (!object) {
        return std::nullopt;
    }
    Claims claims;
    for (const JsonMember& member : *object) {
        if (!read_claim(member, claims, why)) {
            return std::nullopt;
        }
    }
    const auto is_there = [&](std::string_view name) { return find_member(*object, name) != nullptr; };
    const bool complete =
        is_there("jti") &&
        std::all_of(text_claims.begin(), text_claims.end(),
                    [&](const TextClaim& claim) { return !claim.required || is_there(claim.name); }) &&
        std::all_of(time_claims.begin(), time_claims.end(),
                    [&](const TimeClaim& claim) { return is_there(claim.name); });
    if (!complete) {
        why = "a required claim is missing";
        return std::nullopt;
    }
    if (!claims.environment.empty() && !is_valid_environment(claims.environment)) {
        why = "env is not 1 to 16 characters of [a-z0-9]";
        return std::nullopt;
    }
    if (!is_valid_nonce(claims.nonce)) {
        why = "nonce is not 16 bytes in base64url";
        return std::nullopt;
    }
    return claims;
}

std::string write_claims(const Claims& claims) {
    std::string json;
    append_text(json, "iss", claims.issuer);
    append_text(json, "sub", claims.subject);
    append_text(json, "jti", to_string(claims.key_id) + '.' + std::to_string(claims.generation));
    append_time(json, "iat", claims.issued_at);
    append_time(json, "exp", claims.expires_at);
    append_text(json, "role", claims.role);
    append_optional_text(json, "aud", claims.audience);
    append_optional_text(json, "env", claims.environment);
    append_optional_text(json, "scope", claims.scope);
    append_text(json, "nonce", claims.nonce);
    json += '}';
    return json;
}

bool is_plain(const Claims& claims) {
    const auto is_plain_character = [](char c) { return c >= ' ' && c <= '~' && c != '"' && c != '\\'; };
    const bool texts = std::ranges::all_of(text_claims, [&](const TextClaim& claim) {
        const std::string& text = claims.*claim.text;
        return (!claim.required || !text.empty()) && std::ranges::all_of(text, is_plain_character);
    });
    // A negative time is none as an unsigned one either.
    const bool times = std::ranges::all_of(time_claims, [&](const TimeClaim& claim) {
        return is_valid_time(static_cast<std::uint64_t>(claims.*claim.time));
    });
    return texts && times && claims.generation >= 1 &&
           (claims.environment.empty() || is_valid_environment(claims.environment)) &&
           is_valid_nonce(claims.nonce);
}

}  // namespace apikey::core
