#pragma once

#include "pg/prelude.h"

namespace apikey::pg {

/**
 * Within the scope a wait for a lock fails (55P03) after so many milliseconds, whatever lock_timeout says. A
 * deadlock is looked for before that, so that it is not mistaken for somebody who holds a lock.
 */
class LockTimeoutScope {
  public:
    explicit LockTimeoutScope(int milliseconds) noexcept
        : lock_timeout_(LockTimeout), deadlock_timeout_(DeadlockTimeout) {
        LockTimeout = std::max(milliseconds, 2);
        DeadlockTimeout = std::min(DeadlockTimeout, std::max(LockTimeout / 2, 1));
    }
    LockTimeoutScope(const LockTimeoutScope&) = delete;
    LockTimeoutScope& operator=(const LockTimeoutScope&) = delete;
    ~LockTimeoutScope() {
        LockTimeout = lock_timeout_;
        DeadlockTimeout = deadlock_timeout_;
    }

  private:
    int lock_timeout_;
    int deadlock_timeout_;
};

}  // namespace apikey::pg
