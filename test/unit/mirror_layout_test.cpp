#include "core/mirror_layout.h"

#include <gtest/gtest.h>

namespace apikey::core {
namespace {

const std::string id = "01a214f9-3503-79d2-9cfa-0b2b4f303ce5";

TEST(MirrorLayout, MembersAreWhatMirrorMemberMakes) {
    const Uuid key_id = uuid_from_string(id).value();
    EXPECT_EQ(mirror_member(key_id, std::nullopt, false), id);
    EXPECT_EQ(mirror_member(key_id, 7, false), id + ".7");
    EXPECT_EQ(mirror_member(key_id, 2147483647, true), "changed:" + id + ".2147483647");
    for (const std::string& member : {id, id + ".7", id + ".2147483647", "changed:" + id + ".1"}) {
        EXPECT_TRUE(is_mirror_member(member)) << member;
    }
}

TEST(MirrorLayout, NothingElseIsAMember) {
    const std::string others[] = {"",
                                  ".",
                                  "junk",
                                  id.substr(1),
                                  "01A214F9-3503-79D2-9CFA-0B2B4F303CE5",
                                  id + ".",
                                  id + ".0",
                                  id + ".01",
                                  id + ".-1",
                                  id + ".1 ",
                                  id + ".1x",
                                  id + ".+1",
                                  id + "71",
                                  id + ".2147483648",
                                  id + ".99999999999999999999",
                                  "changed:" + id,
                                  "changed:",
                                  "Changed:" + id + ".1",
                                  "changed:changed:" + id + ".1",
                                  id + std::string(".1\0", 3),
                                  std::string("\xff\xfe\x00", 3)};
    for (const std::string& text : others) {
        EXPECT_FALSE(is_mirror_member(text)) << text;
    }
}

}  // namespace
}  // namespace apikey::core
