#pragma once

#include "pg/guard.h"

namespace apikey::pg {

/** What is palloc'd in this scope belongs to `context`. */
class MemoryScope {
  public:
    explicit MemoryScope(MemoryContext context) : before_(MemoryContextSwitchTo(context)) {}
    MemoryScope(const MemoryScope&) = delete;
    MemoryScope& operator=(const MemoryScope&) = delete;
    ~MemoryScope() { MemoryContextSwitchTo(before_); }

  private:
    MemoryContext before_;
};

/** Memory of the session's own, emptied by empty(); made on first use. Declare it static, or part of
 * something static. */
class SessionMemory {
  public:
    MemoryContext empty() {
        call([&] {
            if (context_ == nullptr) {
                context_ = AllocSetContextCreate(TopMemoryContext, "apikey", ALLOCSET_SMALL_SIZES);
            }
            MemoryContextReset(context_);
        });
        return context_;
    }

  private:
    MemoryContext context_ = nullptr;
};

}  // namespace apikey::pg
