#include "pg/guard.h"
#include "pg/interrupts.h"
#include "redis/errors.h"
#include "redis/waiter.h"

namespace apikey::redis {
namespace {

std::uint32_t events_of(const Interest& interest) {
    return (interest.to_read ? WL_SOCKET_READABLE : 0U) | (interest.to_write ? WL_SOCKET_WRITEABLE : 0U);
}

constexpr int first_socket = 2;  // after the latch and the postmaster

}  // namespace

Waiter::~Waiter() {
    forget();
}

void Waiter::forget() noexcept {
    if (set_ != nullptr) {
        FreeWaitEventSet(set_);
        set_ = nullptr;
    }
    watched_.clear();
}

/** A set cannot be rid of a socket, so it is made anew when they are others. */
void Waiter::watch(std::span<const Interest> interests) {
    const bool same =
        set_ != nullptr &&
        std::equal(interests.begin(), interests.end(), watched_.begin(), watched_.end(),
                   [](const Interest& interest, std::uint64_t serial) { return interest.serial == serial; });
    if (!same) {
        forget();
        watched_.reserve(interests.size());
        set_ = pg::call(
            [&] { return pg::raw_create_wait_event_set(first_socket + static_cast<int>(interests.size())); });
        pg::call([&] {
            AddWaitEventToSet(set_, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, nullptr);
            AddWaitEventToSet(set_, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, nullptr, nullptr);
            for (const Interest& interest : interests) {
                AddWaitEventToSet(set_, events_of(interest), interest.socket, nullptr, nullptr);
            }
        });
        for (const Interest& interest : interests) {
            watched_.push_back(interest.serial);
        }
        return;
    }
    pg::call([&] {
        for (std::size_t i = 0; i < interests.size(); i++) {
            ModifyWaitEvent(set_, first_socket + static_cast<int>(i), events_of(interests[i]), nullptr);
        }
    });
}

void Waiter::give_back_latch() noexcept {
    if (took_latch_) {
        took_latch_ = false;
        SetLatch(MyLatch);
    }
}

void Waiter::stop_if_asked() const {
    if (must_stop_ != nullptr && must_stop_()) {
        throw Stopped();
    }
}

void Waiter::wait(std::span<Interest> interests, Clock::time_point deadline) {
    stop_if_asked();
    watch(interests);
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
    const long timeout = std::clamp<long>(left, 0, 60'000);
    pg::call([&] {
        WaitEvent events[16];
        const int count = WaitEventSetWait(set_, timeout, events, lengthof(events), PG_WAIT_EXTENSION);
        for (int i = 0; i < count; i++) {
            if ((events[i].events & WL_LATCH_SET) != 0) {
                ResetLatch(MyLatch);
                took_latch_ = true;
            } else if (events[i].pos >= first_socket) {
                Interest& interest = interests[static_cast<std::size_t>(events[i].pos - first_socket)];
                interest.readable = (events[i].events & WL_SOCKET_READABLE) != 0;
                interest.writable = (events[i].events & WL_SOCKET_WRITEABLE) != 0;
            }
        }
    });
    // First, because serving interrupts makes a request to cancel void, which may be what it goes by.
    stop_if_asked();
    pg::call([] { pg::raw_serve_interrupts(); });
}

}  // namespace apikey::redis
