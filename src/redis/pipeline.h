#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/redis_slot.h"
#include "redis/script.h"

namespace apikey::redis {

/** Commands that go to Redis together, in the form in which they are sent. */
class Pipeline {
  public:
    using Arguments = std::span<const std::string_view>;

    /** The whole command, its name first. `routing_key` says where in a cluster it goes; empty: anywhere.
     * Never SUBSCRIBE, MONITOR or another that has not exactly one reply. */
    void command(std::string_view routing_key, Arguments arguments);
    void command(std::string_view routing_key, std::initializer_list<std::string_view> arguments) {
        command(routing_key, Arguments(arguments.begin(), arguments.size()));
    }

    /** EVALSHA; it goes to where keys[0] is. The link sends the script itself where Redis does not have it.
     */
    void eval(const Script& script, Arguments keys, Arguments arguments);
    void eval(const Script& script, std::initializer_list<std::string_view> keys,
              std::initializer_list<std::string_view> arguments) {
        eval(script, Arguments(keys.begin(), keys.size()), Arguments(arguments.begin(), arguments.size()));
    }

    std::size_t size() const noexcept { return commands_.size(); }
    bool empty() const noexcept { return commands_.empty(); }
    std::size_t bytes() const noexcept { return encoded_.size(); }
    /** Keeps the memory, for the next ones. */
    void clear() noexcept {
        commands_.clear();
        encoded_.clear();
    }

    /** For the link. */
    struct Command {
        std::size_t begin;
        std::size_t end;
        const Script* script;  ///< null for other commands than eval()
        std::int32_t slot;     ///< any_slot, or where in a cluster
    };
    static constexpr std::int32_t any_slot = -1;
    const Command& at(std::size_t index) const { return commands_[index]; }
    std::string_view encoded(std::size_t index) const {
        return std::string_view(encoded_).substr(commands_[index].begin,
                                                 commands_[index].end - commands_[index].begin);
    }

  private:
    void append_header(char type, std::size_t number);
    void append_argument(std::string_view argument);
    void finish(std::size_t begin, std::string_view routing_key, const Script* script);

    std::string encoded_;
    std::vector<Command> commands_;
};

}  // namespace apikey::redis
