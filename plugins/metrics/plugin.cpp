// Metrics beside those of the host, by what they judge: decisions, numbers, pictures, texts, detections.
#include "classes.hpp"
#include "detection.hpp"
#include "images.hpp"
#include "signals.hpp"
#include "words.hpp"

using namespace quern_metrics;

QUERN_SDK_ALGORITHMS(quern_sdk::Metrics<Auc, F1, MeanIou, Dice, Rmse, Mae, Psnr, Ssim, SiSdr, Pearson, Spearman, WordErrors, CharacterErrors,
                                        MeanAveragePrecision, CellF1>)
