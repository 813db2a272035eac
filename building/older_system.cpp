// Stands in for what glibc and the C++ library have only in versions after those of manylinux_2_28 (glibc 2.28,
// GLIBCXX_3.4.25), so that a wheel that was built beside newer ones loads with these.
#include <new>
#include <sstream>

#define HNN_HIDDEN __attribute__((visibility("hidden")))

// From glibc 2.32 on: tells the C++ library that there are several threads.
extern "C" {
HNN_HIDDEN char __libc_single_threaded = 0;
}

// From GLIBCXX_3.4.29 on: a vector's size that is too large.
extern "C" [[noreturn]] HNN_HIDDEN void hnn_bad_array_new_length() __asm__("_ZSt28__throw_bad_array_new_lengthv");
void hnn_bad_array_new_length() { throw std::bad_array_new_length(); }

// From GLIBCXX_3.4.26 on.
template std::ostringstream::basic_ostringstream();
template std::stringstream::basic_stringstream();
