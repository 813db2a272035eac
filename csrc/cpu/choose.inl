// Turns run-time options into stages, and defines the kernels that the host calls.
//
// Included by body.inl, after backward.inl.
#ifndef HNN_NAMESPACE
#error "a part of csrc/cpu/kernels_*.cpp, by way of body.inl: see there"
#endif

namespace HNN_NAMESPACE {

template <int kValue>
struct Int {
  static constexpr int value = kValue;
};
// Calls f with the number as a compile-time constant, 0 <= number < kCount.
template <int kCount, int kFrom = 0, class F>
auto constant(int number, F f) {
  if constexpr (kFrom + 1 < kCount) {
    if (number != kFrom) return constant<kCount, kFrom + 1>(number, f);
  }
  return f(Int<kFrom>{});
}

// Computing the density beside the recursion instead of before it saves a sixth of backward, and doubles the number of
// functions. The registers of AVX2 do not hold the states and the densities of four vectors: a loop for each is a tenth
// faster.
template <class C>
constexpr int kDensityInside = sizeof(C) == 4 && HNN_VECTOR_BYTES != 32 ? static_cast<int>(kGaussian) : kFromRows;

template <class C>
void choose_membrane(Stages<C>& stages, const hnn::Call& call) {
  const bool fused = kDensityInside<C> != kFromRows && call.surrogate == kGaussian && call.potential == kPotentialNone,
             learns = call.learns();
  constant<kResets>(call.reset, [&](auto reset) {
    constexpr int kReset = decltype(reset)::value;
    constant<kWaysToFire>(fires(call), [&](auto fires) {
      constexpr int kHow = decltype(fires)::value;
      stages.membrane_forward = &membrane_forward<C, kReset, kHow, kSpikes>;
      stages.advance = &membrane_forward<C, kReset, kHow, kGiven>;
      stages.recompute = Kept(call).only_v() ? &membrane_forward<C, kReset, kHow, kPotential> : stages.advance;
    });
    constexpr int kInside = kDensityInside<C>;
    if (call.potential != kPotentialNone) {
      stages.membrane_backward = learns ? &membrane_backward<C, kReset, kAnyGrad, true, kFromRows>
                                        : &membrane_backward<C, kReset, kAnyGrad, false, kFromRows>;
      return;
    }
    constant<kResetGrads>(call.reset_grad, [&](auto reset_grad) {
      // Only a filter has a path from R to R.
      constexpr int kAsked = decltype(reset_grad)::value;
      constexpr int kGrad = kReset != kFilter && kAsked == kOneStep ? static_cast<int>(kFull) : kAsked;
      stages.membrane_backward = fused    ? learns ? &membrane_backward<C, kReset, kGrad, true, kInside>
                                                   : &membrane_backward<C, kReset, kGrad, false, kInside>
                                 : learns ? &membrane_backward<C, kReset, kGrad, true, kFromRows>
                                          : &membrane_backward<C, kReset, kGrad, false, kFromRows>;
    });
  });
  stages.density = constant<kSurrogates>(call.surrogate,
                                         [](auto surrogate) { return &density_rows<C, decltype(surrogate)::value>; });
  if (fused) stages.density = nullptr;
}

// Calls f with the orders of a filter as compile-time constants where they are in common use (exponential, dual
// exponential, and dual exponential one step later), otherwise with -1.
template <class F>
void with_orders(const hnn::FilterCall& call, F f) {
  const int P = call.feedback, Q = call.feedforward;
  if (P == 1 && Q == 0) return f(Int<1>{}, Int<0>{});
  if (P == 2 && Q == 0) return f(Int<2>{}, Int<0>{});
  if (P == 2 && Q == 1) return f(Int<2>{}, Int<1>{});
  f(Int<-1>{}, Int<-1>{});
}

inline bool same_for_all(const hnn::FilterCall& call) {
  bool same = true;
  for (int i = 0; i < call.taps(); ++i) same &= is_absent_or_one(call.coefficients[i]);
  return same;
}

// With AVX2 the states of an axon and of the membrane do not fit into the registers together; each in a loop of its
// own, forward is a fifth faster.
constexpr bool kAxonApart = HNN_VECTOR_BYTES == 32;

template <class C, class Filters>
void choose_filter(Filters& filters, const hnn::FilterCall& call) {
  if (!call.present) return;
  with_orders(call, [&](auto feedback, auto feedforward) {
    constexpr int kP = decltype(feedback)::value, kQ = decltype(feedforward)::value;
    constexpr bool kMayShare = kAxonApart && kP >= 0 && sizeof(C) == 4;
    filters.forward =
        kMayShare && same_for_all(call) ? &filter_forward<C, kP, kQ, kMayShare> : &filter_forward<C, kP, kQ, false>;
    filters.backward = call.learns ? &filter_backward<C, kP, kQ, true> : &filter_backward<C, kP, kQ, false>;
  });
}

inline bool same_for_all(const hnn::Call& call) {
  bool same = same_for_all(call.axon);
#define HNN_ADD(name, Name) same &= is_absent_or_one(call.name);
  HNN_COEFFICIENTS(HNN_ADD)
#undef HNN_ADD
  return same;
}

// The functions for the usual layer with fixed coefficients in float32. In groups of g vectors; with kP >= 0 the axon
// of these orders is in the same loop.
template <class C, int g, int kP = -1, int kQ = 0>
void choose_usual(Stages<C>& stages, const hnn::Call& call) {
  if constexpr (kP < 0 || !kAxonApart) {
    stages.membrane_forward = &membrane_forward<C, kFilter, kFromThreshold, kSpikes, g, kP, kQ>;
  }
  constant<kResetGrads>(call.reset_grad, [&](auto grad) {
    stages.membrane_backward =
        &membrane_backward<C, kFilter, decltype(grad)::value, false, kDensityInside<C>, g, kP, kQ>;
  });
}

// The usual layer has functions of its own for large trains, which take whole rows, and for an axon of common orders
// whose coefficients are the same for all neurons: membrane and axon in one loop are a tenth faster.
template <class C>
void choose_special(Stages<C>& stages, const hnn::Call& call) {
  Options options = call;
  options.reset_grad = Options().reset_grad;  // of which there is a function each
  if constexpr (sizeof(C) == 4) {
    if (call.learns() || !options.usual()) return;
    const bool whole = !kByBlocks && call.dtype == hnn::kFloat32 && (call.current.large || call.out.large);
    if (whole && Kept(call).only_v()) {
      stages.recompute = &membrane_forward<C, kFilter, kFromThreshold, kPotential, kWholeRow<C>>;
    }
    if (whole && !call.axon.present) choose_usual<C, kWholeRow<C>>(stages, call);
    if (!call.axon.present || call.axon.learns || !same_for_all(call)) return;
    with_orders(call.axon, [&](auto feedback, auto feedforward) {
      constexpr int kP = decltype(feedback)::value, kQ = decltype(feedforward)::value;
      if constexpr (kP >= 0) {
        stages.axon_in_forward = !kAxonApart;
        stages.axon_in_backward = true;
        choose_usual<C, kGroup<C>, kP, kQ>(stages, call);
      }
    });
  }
}

template <class C>
Stages<C> choose_stages(const hnn::Call& call) {
  Stages<C> stages{};
  if (call.reset != kNoMembrane) choose_membrane(stages, call);
  choose_filter<C>(stages.synapse, call.synapse);
  choose_filter<C>(stages.axon, call.axon);
  choose_special(stages, call);
  return stages;
}

template <class T>
struct Type {
  using type = T;
};
template <class F>
auto choose_dtype(hnn::DType dtype, F f) {
  switch (dtype) {
    case hnn::kFloat64: return f(Type<double>{});
    case hnn::kFloat32: return f(Type<float>{});
    case hnn::kBFloat16: return f(Type<BFloat16>{});
    default: return f(Type<Float16>{});
  }
}

template <template <class, class> class Pass, class IO>
void run_in(const hnn::Call& call, void* scratch, int64_t begin, int64_t end) {
  using C = Compute<IO>;
  const Stages<C> stages = choose_stages<C>(call);
  Pass<IO, C> pass(call, stages, Arena<C>(scratch));
  each_tile(call.neurons, begin, end, [&](int64_t first, int count) { pass.tile(first, count); });
}

#ifdef HNN_FLOAT64_ALONE
template void run_in<Forward, double>(const hnn::Call&, void*, int64_t, int64_t);
template void run_in<Backward, double>(const hnn::Call&, void*, int64_t, int64_t);
#else
extern template void run_in<Forward, double>(const hnn::Call&, void*, int64_t, int64_t);
extern template void run_in<Backward, double>(const hnn::Call&, void*, int64_t, int64_t);

int64_t scratch_bytes(hnn::Call& call, bool backward) {
  return choose_dtype(call.dtype, [&](auto type) {
    using C = Compute<typename decltype(type)::type>;
    return backward ? backward_scratch_bytes<C>(call) : forward_scratch_bytes<C>(call);
  });
}

template <template <class, class> class Pass>
void run(const hnn::Call& call, void* scratch, int64_t begin, int64_t end) {
  choose_dtype(call.dtype, [&](auto type) { run_in<Pass, typename decltype(type)::type>(call, scratch, begin, end); });
}
void forward(const hnn::Call& call, void* scratch, int64_t begin, int64_t end) {
  run<Forward>(call, scratch, begin, end);
}
void backward(const hnn::Call& call, void* scratch, int64_t begin, int64_t end) {
  run<Backward>(call, scratch, begin, end);
}
#endif

}  // namespace HNN_NAMESPACE
