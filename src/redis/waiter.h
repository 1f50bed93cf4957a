#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <vector>

struct WaitEventSet;

namespace apikey::redis {

using Clock = std::chrono::steady_clock;

/** A socket that is waited for, and what came of it. */
struct Interest {
    int socket = -1;
    std::uint64_t serial = 0;  ///< names it: the numbers of sockets come again
    bool to_read = false;      ///< one of the two at least
    bool to_write = false;
    bool readable = false;
    bool writable = false;
};

/** Waiting as PostgreSQL's processes do: for sockets, but also for the latch, and for the death of the
 * postmaster, when this process ends at once. */
class Waiter {
  public:
    explicit Waiter(bool (*must_stop)()) noexcept : must_stop_(must_stop) {}
    Waiter(const Waiter&) = delete;
    Waiter& operator=(const Waiter&) = delete;
    ~Waiter();

    /** Until a socket is ready, the latch is set (which is reset then), or the deadline: not all of them are
     * ready, or any. Serves interrupts. Throws Stopped, and pg::Error. */
    void wait(std::span<Interest> interests, Clock::time_point deadline);

    /** Sets the latch again where wait() has reset it: whoever set it meant the caller, and not this wait. */
    void give_back_latch() noexcept;

  private:
    void stop_if_asked() const;
    void watch(std::span<const Interest> interests);
    void forget() noexcept;

    bool (*must_stop_)();
    bool took_latch_ = false;
    WaitEventSet* set_ = nullptr;  // of these sockets, in this order
    std::vector<std::uint64_t> watched_;
};

}  // namespace apikey::redis
