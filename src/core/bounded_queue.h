#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

/**
 * A bounded queue of many producers and one consumer, made to lie in shared memory (after Dmitry Vyukov's
 * bounded MPMC queue). A full queue refuses; nobody waits for anybody. The consumer looks at entries and
 * removes them in two steps, so that what it has not yet made durable is still there when it fails.
 */
namespace apikey::core {

template <typename Entry>
struct QueueSlot {
    /** position: free for the producer that takes this position; position + 1: filled, for the consumer. */
    std::uint64_t turn;
    Entry entry;
};

/** Zeroed memory is not a queue yet: reset() makes it one. */
struct QueueState {
    alignas(64) std::uint64_t tail;  ///< next position to be filled
    alignas(64) std::uint64_t head;  ///< next position to be consumed; only the consumer writes it
};

template <typename Entry>
class BoundedQueue {
    static_assert(std::is_trivially_copyable_v<Entry>);

  public:
    using Slot = QueueSlot<Entry>;

    /** slots.size() must be at least 2. The queue owns neither. */
    BoundedQueue(QueueState& state, std::span<Slot> slots) : state_(&state), slots_(slots) {}

    /** Empty. Before anybody else has access. */
    void reset() {
        state_->tail = 0;
        state_->head = 0;
        for (std::size_t i = 0; i < slots_.size(); i++) {
            slots_[i].turn = i;
        }
    }

    /** Any process. False when the queue is full. */
    bool push(const Entry& entry) {
        std::uint64_t position = tail().load(std::memory_order_relaxed);
        for (;;) {
            Slot& slot = slots_[position % slots_.size()];
            const std::uint64_t turn = std::atomic_ref(slot.turn).load(std::memory_order_acquire);
            if (turn == position) {
                if (tail().compare_exchange_weak(position, position + 1, std::memory_order_relaxed)) {
                    slot.entry = entry;
                    std::atomic_ref(slot.turn).store(position + 1, std::memory_order_release);
                    return true;
                }
            } else if (turn < position) {
                return false;
            } else {
                position = tail().load(std::memory_order_relaxed);
            }
        }
    }

    /** The consumer: the entry that is `ahead` after the next one, or nullptr where there is none yet. Good
     * until drop() passes it. */
    const Entry* peek(std::size_t ahead) const {
        if (ahead >= slots_.size()) {
            return nullptr;
        }
        const std::uint64_t position = state_->head + ahead;
        Slot& slot = slots_[position % slots_.size()];
        return std::atomic_ref(slot.turn).load(std::memory_order_acquire) == position + 1 ? &slot.entry
                                                                                          : nullptr;
    }

    /** The consumer: removes the next `count` entries, all of which peek() has shown. */
    void drop(std::size_t count) {
        for (std::size_t i = 0; i < count; i++) {
            const std::uint64_t position = state_->head;
            Slot& slot = slots_[position % slots_.size()];
            std::atomic_ref(slot.turn).store(position + slots_.size(), std::memory_order_release);
            std::atomic_ref(state_->head).store(position + 1, std::memory_order_relaxed);
        }
    }

    /** About how many entries wait. */
    std::size_t size() const {
        const std::uint64_t first = std::atomic_ref(state_->head).load(std::memory_order_relaxed);
        const std::uint64_t next = tail().load(std::memory_order_relaxed);
        return next > first ? static_cast<std::size_t>(next - first) : 0;
    }

    std::size_t capacity() const { return slots_.size(); }

  private:
    std::atomic_ref<std::uint64_t> tail() const { return std::atomic_ref(state_->tail); }

    QueueState* state_;
    std::span<Slot> slots_;
};

}  // namespace apikey::core
