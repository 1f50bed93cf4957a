#include "core/bounded_queue.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

namespace apikey::core {
namespace {

using std::chrono::steady_clock;

/** A queue with memory of its own, which is anything but zero before the queue is made. */
template <typename Entry>
struct Owned {
    explicit Owned(std::size_t capacity) : slots(capacity), queue(state, slots) {
        state.tail = state.head = 99;
        for (auto& slot : slots) {
            slot.turn = 99;
        }
        queue.reset();
    }

    QueueState state;
    std::vector<QueueSlot<Entry>> slots;
    BoundedQueue<Entry> queue;
};

// The two counters are written by different processes: each has a cache line of its own.
static_assert(alignof(QueueState) == 64 && sizeof(QueueState) == 128);

TEST(BoundedQueue, StartsEmpty) {
    Owned<int> owned(4);
    EXPECT_EQ(owned.queue.capacity(), 4u);
    EXPECT_EQ(owned.queue.size(), 0u);
    for (std::size_t ahead = 0; ahead < 10; ++ahead) {
        EXPECT_EQ(owned.queue.peek(ahead), nullptr);
    }
}

TEST(BoundedQueue, FirstInFirstOut) {
    Owned<int> owned(4);
    for (const int entry : {10, 11, 12}) {
        EXPECT_TRUE(owned.queue.push(entry));
    }
    EXPECT_EQ(owned.queue.size(), 3u);
    for (const int entry : {10, 11, 12}) {
        ASSERT_NE(owned.queue.peek(0), nullptr);
        EXPECT_EQ(*owned.queue.peek(0), entry);
        owned.queue.drop(1);
    }
    EXPECT_EQ(owned.queue.peek(0), nullptr);
    EXPECT_EQ(owned.queue.size(), 0u);
}

TEST(BoundedQueue, PeekLooksAheadAndRemovesNothing) {
    Owned<int> owned(4);
    for (const int entry : {10, 11, 12, 13}) {
        ASSERT_TRUE(owned.queue.push(entry));
    }
    for (int twice = 0; twice < 2; ++twice) {
        for (std::size_t ahead = 0; ahead < 4; ++ahead) {
            ASSERT_NE(owned.queue.peek(ahead), nullptr);
            EXPECT_EQ(*owned.queue.peek(ahead), 10 + static_cast<int>(ahead));
        }
        // Not the first once more, although that is in the same slot.
        EXPECT_EQ(owned.queue.peek(4), nullptr);
        EXPECT_EQ(owned.queue.peek(8), nullptr);
    }
    EXPECT_EQ(owned.queue.size(), 4u);
    owned.queue.drop(3);
    EXPECT_EQ(owned.queue.size(), 1u);
    EXPECT_EQ(*owned.queue.peek(0), 13);
    EXPECT_EQ(owned.queue.peek(1), nullptr);
}

TEST(BoundedQueue, AFullQueueRefusesAndKeepsWhatItHas) {
    for (const std::size_t capacity : {2u, 3u, 8u}) {
        Owned<int> owned(capacity);
        const int last = static_cast<int>(capacity) - 1;
        for (int entry = 0; entry <= last; ++entry) {
            ASSERT_TRUE(owned.queue.push(entry));
        }
        EXPECT_FALSE(owned.queue.push(-1));
        EXPECT_FALSE(owned.queue.push(-2));
        EXPECT_EQ(owned.queue.size(), capacity);
        for (int entry = 0; entry <= last; ++entry) {
            EXPECT_EQ(*owned.queue.peek(static_cast<std::size_t>(entry)), entry);
        }
        // What is dropped makes just that much room.
        owned.queue.drop(1);
        EXPECT_TRUE(owned.queue.push(100));
        EXPECT_FALSE(owned.queue.push(-3));
        EXPECT_EQ(*owned.queue.peek(0), 1);
        EXPECT_EQ(*owned.queue.peek(capacity - 1), 100);
    }
}

TEST(BoundedQueue, DroppingNothingChangesNothing) {
    Owned<int> owned(2);
    ASSERT_TRUE(owned.queue.push(1));
    owned.queue.drop(0);
    EXPECT_EQ(owned.queue.size(), 1u);
    EXPECT_EQ(*owned.queue.peek(0), 1);
}

TEST(BoundedQueue, GoesRoundManyTimes) {
    Owned<int> owned(3);
    int next_in = 0;
    int next_out = 0;
    for (int round = 0; round < 1000; ++round) {
        for (int i = 0; i < 1 + round % 3; ++i) {
            ASSERT_TRUE(owned.queue.push(next_in++));
        }
        ASSERT_EQ(owned.queue.size(), static_cast<std::size_t>(next_in - next_out));
        while (const int* entry = owned.queue.peek(0)) {
            ASSERT_EQ(*entry, next_out++);
            owned.queue.drop(1);
        }
        ASSERT_EQ(next_out, next_in);
    }
}

TEST(BoundedQueue, ResetForgets) {
    Owned<int> owned(3);
    for (const int entry : {1, 2, 3}) {
        ASSERT_TRUE(owned.queue.push(entry));
    }
    owned.queue.drop(1);
    owned.queue.reset();
    EXPECT_EQ(owned.queue.size(), 0u);
    EXPECT_EQ(owned.queue.peek(0), nullptr);
    EXPECT_TRUE(owned.queue.push(7));
    EXPECT_EQ(*owned.queue.peek(0), 7);
}

// Another process has its own object over the same memory.
TEST(BoundedQueue, ASecondObjectSeesTheSameQueue) {
    Owned<int> owned(3);
    BoundedQueue<int> other(owned.state, owned.slots);
    ASSERT_TRUE(owned.queue.push(5));
    ASSERT_NE(other.peek(0), nullptr);
    EXPECT_EQ(*other.peek(0), 5);
    other.drop(1);
    EXPECT_EQ(owned.queue.size(), 0u);
}

/** Long enough to be torn if it could be seen half-written: every word says the same. */
struct Message {
    std::uint64_t producer;
    std::array<std::uint64_t, 6> number;
};

// Producers that meet a full queue try again; the consumer takes batches, and looks at more than it drops.
// Everything arrives once, whole, and in its producer's order.
TEST(BoundedQueueThreads, NothingIsLostTwiceOrOutOfOrder) {
    constexpr std::uint64_t producers = 4;
    constexpr std::uint64_t each = 20'000;
    for (const std::size_t capacity : {2u, 7u, 64u}) {
        Owned<Message> owned(capacity);
        const auto deadline = steady_clock::now() + std::chrono::minutes(5);
        std::atomic<bool> stop = false;
        std::atomic<std::uint64_t> refused = 0;
        std::vector<std::thread> threads;
        for (std::uint64_t producer = 0; producer < producers; ++producer) {
            threads.emplace_back([&, producer] {
                for (std::uint64_t number = 0; number < each && !stop.load(); ++number) {
                    Message message{producer, {}};
                    message.number.fill(number);
                    while (!owned.queue.push(message) && !stop.load()) {
                        refused.fetch_add(1, std::memory_order_relaxed);
                        std::this_thread::yield();
                    }
                }
            });
        }

        std::array<std::uint64_t, producers> next{};
        std::uint64_t received = 0;
        std::uint64_t wrong = 0;
        while (received < producers * each && wrong == 0 && steady_clock::now() < deadline) {
            std::vector<Message> seen;
            while (const Message* message = owned.queue.peek(seen.size())) {
                seen.push_back(*message);
            }
            wrong += seen.size() > capacity ? 1 : 0;
            const std::size_t taken = (seen.size() + 1) / 2;
            for (std::size_t i = 0; i < taken && wrong == 0; ++i) {
                const Message& message = seen[i];
                // What peek() shows stays until it is dropped.
                const Message* again = owned.queue.peek(i);
                wrong += again == nullptr || std::memcmp(again, &message, sizeof(message)) != 0 ? 1 : 0;
                wrong += message.producer >= producers ? 1 : 0;
                for (const std::uint64_t number : message.number) {
                    wrong += wrong == 0 && number != next[message.producer] ? 1 : 0;
                }
                if (wrong == 0) {
                    ++next[message.producer];
                }
            }
            owned.queue.drop(taken);
            received += taken;
            if (seen.empty()) {
                std::this_thread::yield();
            }
        }
        const bool all_came = received == producers * each;
        stop.store(true);
        for (std::thread& thread : threads) {
            thread.join();
        }
        EXPECT_EQ(wrong, 0u);
        EXPECT_TRUE(all_came) << received << " with capacity " << capacity;
        EXPECT_EQ(owned.queue.peek(0), nullptr);
        EXPECT_EQ(owned.queue.size(), 0u);
        if (capacity == 2) {
            EXPECT_GT(refused.load(), 0u);
        }
    }
}

// Without a consumer exactly as many get in as there is room, whoever they are.
TEST(BoundedQueueThreads, AsManyGetInAsThereIsRoom) {
    constexpr std::size_t capacity = 1000;
    Owned<std::uint64_t> owned(capacity);
    std::atomic<std::size_t> accepted = 0;
    std::vector<std::thread> threads;
    for (std::uint64_t producer = 0; producer < 4; ++producer) {
        threads.emplace_back([&, producer] {
            for (std::uint64_t i = 0; i < 500; ++i) {
                accepted += owned.queue.push(producer * 500 + i) ? 1 : 0;
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_EQ(accepted.load(), capacity);
    EXPECT_EQ(owned.queue.size(), capacity);
    std::vector<bool> seen(2000);
    for (std::size_t i = 0; i < capacity; ++i) {
        const std::uint64_t* entry = owned.queue.peek(i);
        ASSERT_NE(entry, nullptr);
        ASSERT_LT(*entry, seen.size());
        EXPECT_FALSE(seen[*entry]);
        seen[*entry] = true;
    }
}

}  // namespace
}  // namespace apikey::core
