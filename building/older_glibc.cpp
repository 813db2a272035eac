// Stands in for what glibc has only from 2.32 on, so that a wheel that was built beside a newer one loads with 2.28. It
// tells the C++ library that there are several threads.
extern "C" __attribute__((visibility("hidden"))) char __libc_single_threaded = 0;
