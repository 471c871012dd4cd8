// From the camera's bytes to the network's input, and from its raw outputs to candidate boxes. Compiled by nvrtc.py.
//
// Resizing follows OpenCV's INTER_LINEAR for 8 bits (weights of 11 bits, the same truncations), with the weights made on
// the host (taps.py): the result is the CPU's, bit for bit. OUT, the type of the input, is defined by the compile options.

#if OUT == 16
typedef unsigned short out_t;
#elif OUT == 8
typedef unsigned char out_t;
#else
typedef float out_t;
#endif

struct Job {                     // one picture; see frames.py, JOB
    const unsigned char *pixels; // BGR, rows of `pitch` bytes, at the corner of what is resized
    const int4 *columns;         // per target column: byte offsets of two pixels in a row, and their weights
    const int4 *rows;            // per target row: two rows, and their weights
    long long pitch;
    int left, top, width, height; // the target rectangle in the input
};

struct Format {                 // see frames.py, FORMAT; in the order of the network's channels
    int width, height;
    int rgb, channels_last, plain;
    float mean[3], scale[3], shift[3], pad[3]; // shift: mean * scale
};

__device__ __forceinline__ out_t stored(float value) {
#if OUT == 16
    unsigned short half;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(value));
    return half;
#elif OUT == 8
    return (unsigned char)(int)value;
#else
    return value;
#endif
}

__device__ __forceinline__ float normalised(const Format &f, int channel, int level) {
    const float value = (float)level;
    if (f.plain) return value;
#if OUT == 32
    // One rounding, as the CPU does it (detection/preprocess.py).
    return __fmaf_rn(value, f.scale[channel], -f.shift[channel]);
#else
    return __fmul_rn(__fsub_rn(value, f.mean[channel]), f.scale[channel]);
#endif
}

extern "C" __global__ void preprocess(const Job *jobs, out_t *input, Format f) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= f.width || y >= f.height) return;
    const Job job = jobs[blockIdx.z];
    const long long plane = (long long)f.width * f.height;
    out_t *target = input + blockIdx.z * 3 * plane;
    const int column = x - job.left, row = y - job.top;
    const bool inside = column >= 0 && column < job.width && row >= 0 && row < job.height;
    int level[3];
    if (inside) {
        const int4 cx = job.columns[column], cy = job.rows[row];
        const unsigned char *upper = job.pixels + cy.x * job.pitch, *lower = job.pixels + cy.y * job.pitch;
        for (int c = 0; c < 3; ++c) {
            const int a = upper[cx.x + c] * cx.z + upper[cx.y + c] * cx.w;
            const int b = lower[cx.x + c] * cx.z + lower[cx.y + c] * cx.w;
            level[c] = ((((a >> 4) * cy.z) >> 16) + (((b >> 4) * cy.w) >> 16) + 2) >> 2;
        }
    }
    for (int c = 0; c < 3; ++c) {
        const float value = inside ? normalised(f, c, level[f.rgb ? 2 - c : c]) : f.pad[c];
        const long long pixel = (long long)y * f.width + x;
        target[f.channels_last ? pixel * 3 + c : c * plane + pixel] = stored(value);
    }
}

struct Head {                // one output, or one level of it; see frames.py, HEAD
    const float *scores, *boxes;
    const float *cells;      // per cell: centre x, centre y, stride
    long long score_picture, box_picture; // elements from one picture to the next
    int score_cell, score_value;          // elements from one cell, one value to the next
    int box_cell, box_value;
    int count, first;        // cells; the number of the first one
    int classes, objectness; // objectness: which value, -1 without
    int class_at, box_at;    // where classes and box begin
    int form;                // 0: x, y, log w, log h of the cell; 1: centre and size; 2: four sides of 8 bins
    float min_score;
};

struct Candidate {
    float left, top, right, bottom, score, label, cell;
};

extern "C" __global__ void candidates(Head h, int *counts, Candidate *found, int capacity) {
    const int cell = blockIdx.x * blockDim.x + threadIdx.x;
    if (cell >= h.count) return;
    const float *scores = h.scores + blockIdx.y * h.score_picture + (long long)cell * h.score_cell;
    float objectness = 1.0f;
    if (h.objectness >= 0) {
        objectness = scores[(long long)h.objectness * h.score_value];
        if (!(objectness >= h.min_score)) return;
    }
    const float *values = scores + (long long)h.class_at * h.score_value;
    float best = values[0];
    int label = 0;
    for (int c = 1; c < h.classes; ++c) {
        const float value = values[(long long)c * h.score_value];
        if (value > best) best = value, label = c;
    }
    const float score = h.objectness >= 0 ? __fmul_rn(objectness, best) : best;
    if (!(score >= h.min_score)) return;
    const float *box = h.boxes + blockIdx.y * h.box_picture + (long long)cell * h.box_cell + (long long)h.box_at * h.box_value;
    const float *at = h.cells + 3 * (long long)cell;
    Candidate one;
    if (h.form == 2) {
        float side[4];
        for (int s = 0; s < 4; ++s) {
            float most = box[(long long)8 * s * h.box_value], sum = 0.0f, mean = 0.0f;
            for (int bin = 1; bin < 8; ++bin) most = fmaxf(most, box[(long long)(8 * s + bin) * h.box_value]);
            for (int bin = 0; bin < 8; ++bin) {
                const float weight = expf(box[(long long)(8 * s + bin) * h.box_value] - most);
                sum += weight;
                mean += weight * bin;
            }
            side[s] = mean / sum * at[2];
        }
        one = {at[0] - side[0], at[1] - side[1], at[0] + side[2], at[1] + side[3], score, (float)label, 0.0f};
    } else {
        float x = box[0], y = box[h.box_value], w = box[2 * h.box_value], hh = box[3 * h.box_value];
        if (h.form == 0) {
            x = __fmul_rn(__fadd_rn(x, at[0]), at[2]), y = __fmul_rn(__fadd_rn(y, at[1]), at[2]);
            w = __fmul_rn(expf(w), at[2]), hh = __fmul_rn(expf(hh), at[2]);
        }
        w = __fmul_rn(w, 0.5f), hh = __fmul_rn(hh, 0.5f);
        one = {__fsub_rn(x, w), __fsub_rn(y, hh), __fadd_rn(x, w), __fadd_rn(y, hh), score, (float)label, 0.0f};
    }
    one.cell = (float)(h.first + cell);
    const int place = atomicAdd(counts + blockIdx.y, 1);
    if (place < capacity) found[(long long)blockIdx.y * capacity + place] = one;
}
