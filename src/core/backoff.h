#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <utility>

namespace apikey::core {

/**
 * How long to wait before trying again: exponential with full jitter, so that those who lost the same server
 * do not all come back at once. A random time up to 100 ms, 200 ms, 400 ms … 10 s. What has worked for 30
 * seconds starts anew; what breaks sooner, goes on.
 */
class Backoff {
  public:
    using Clock = std::chrono::steady_clock;
    using Milliseconds = std::chrono::milliseconds;

    static constexpr Milliseconds base{100};
    static constexpr Milliseconds cap{10'000};
    static constexpr std::chrono::seconds health{30};

    /** `random` returns 64 uniformly distributed bits. */
    explicit Backoff(std::function<std::uint64_t()> random) : random_(std::move(random)) {}

    /** It works, since now. */
    void succeeded(Clock::time_point now) { works_since_ = now; }

    /** It broke, or could not be made to work. What is returned is the time to wait. */
    Milliseconds failed(Clock::time_point now) {
        if (works_since_ && now - *works_since_ >= health) {
            failures_ = 0;
        }
        works_since_.reset();
        const auto exponent = std::min(failures_, 16U);
        failures_++;
        const auto ceiling = static_cast<std::uint64_t>(std::min(cap, base * (1 << exponent)).count());
        return Milliseconds(random_() % (ceiling + 1));
    }

    /** In a row, where short successes do not count. */
    unsigned failures() const noexcept { return failures_; }

  private:
    std::function<std::uint64_t()> random_;
    std::optional<Clock::time_point> works_since_;
    unsigned failures_ = 0;
};

}  // namespace apikey::core
